"""Features do not depend on the other images of a pass."""

from __future__ import annotations

import pytest
import torch

import sisom
from pipeline.model.extractor import Extractor
from tests.support.scorer_setup import BATCH, Setup, noise

pytestmark = pytest.mark.usefixtures("threads")


def test_an_image_does_not_see_its_neighbors(setup: Setup) -> None:
    """The same image alone, and in a full batch of others: the same features, to the bit."""
    extract = Extractor(setup.network, "cpu", BATCH)
    others = noise(BATCH, 9)
    alone = extract(others[:1])
    together = extract(others)
    for name in ("saliency", "penultimate", "logits"):
        assert torch.equal(getattr(alone, name)[0], getattr(together, name)[0])


def test_features_do_not_depend_on_how_many_come_at_once(setup: Setup) -> None:
    extract = Extractor(setup.network, "cpu", BATCH)
    pixels = noise(10, 4)
    whole = extract(pixels)
    parts = sisom.Features.concat([extract(pixels[i : i + BATCH]) for i in range(0, 10, BATCH)])
    assert len(whole) == 10
    assert torch.equal(whole.saliency, parts.saliency)
    assert torch.equal(whole.logits, parts.logits)
