"""A network as a value, and the normalisation of pixels."""

from __future__ import annotations

import pytest
import torch

from pipeline.config.sections import Model
from pipeline.model.network import normalise
from tests.support.scorer_setup import MODEL, Setup, noise

pytestmark = pytest.mark.usefixtures("threads")


def test_normalising_by_hand() -> None:
    model = Model(mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    # (0 - mean) / std and (1 - mean) / std
    assert normalise(pixels, model).squeeze().tolist() == [[0.0, 1.0], [-1.0, 1.0], [-4.0, 0.0]]


def test_a_network_built_twice_is_the_same_and_frozen(setup: Setup) -> None:
    one, two = setup.network.build("cpu"), setup.network.build("cpu")
    assert not one.training
    assert not any(parameter.requires_grad for parameter in one.parameters())
    images = normalise(torch.from_numpy(noise(3, 5)), MODEL)
    assert torch.equal(one(images), two(images))
