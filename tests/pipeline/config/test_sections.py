"""Rules of the config's sections."""

from __future__ import annotations

import pytest

from pipeline.config.load import parse
from pipeline.errors import ConfigError
from pipeline.images.decode import Transform

PLAIN = "workspace: w\ntaxonomy: [cat, dog]\npool: {uri: p}\noracle: {kind: simulated, truth: t}\n"


def test_a_model_declares_what_becomes_of_an_image() -> None:
    model = parse(PLAIN + "model: {image_size: 224, resize: 256, interpolation: bicubic}\n", "x.yaml").model
    assert model.transform(99) == Transform(224, 256, "bicubic", 99)


def test_a_crop_beyond_the_image_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"resize \(31\) must not be below image_size \(32\)"):
        parse(PLAIN + "model: {resize: 31}\n", "x.yaml")
