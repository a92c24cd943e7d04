"""The image sets of a study by role."""

from __future__ import annotations

import pytest

from pipeline.config.sections import Storage
from pipeline.errors import ConfigError
from pipeline.studies.image_sets.roles import Sets, find_sets
from pipeline.studies.sections import Data, ImageSet


def test_a_known_class_is_not_unknown() -> None:
    def found(**roles: ImageSet) -> Sets:
        return find_sets(roles, Data(), Storage())

    fit = ImageSet(name="digits", split="train", without=("8", "9"))
    sets = found(fit=fit, known=ImageSet(name="digits", without=("8", "9")))
    assert sets.taxonomy == tuple("01234567")
    near = {"near/digits": ImageSet(name="digits", only=("7", "8"))}
    with pytest.raises(ConfigError, match="'7' of digits is a known one; leave it out"):
        found(fit=fit, **near)
    with pytest.raises(ConfigError, match="has class '8', which digits has not"):
        found(fit=fit, known=ImageSet(name="digits"))
