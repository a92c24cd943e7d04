"""Mistakes that are told before anything starts."""

from __future__ import annotations

import pytest

from pipeline.errors import ConfigError
from pipeline.rounds.preflight import check_model
from tests.support.judging import judged_by

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_wrong_option_is_told_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match=r"scoring\.options: detector 'knn' has no option 'kk'"):
        check_model(judged_by("knn", scoring={"options": {"kk": 3}}))
    check_model(judged_by("knn", scoring={"options": {"k": 3}}))
