"""Shapes in annotations are enforced here: every call in these tests is checked against them."""

import sys

from jaxtyping import install_import_hook

if "sisom" not in sys.modules:
    # Left in place for the whole run: modules imported later are checked too.
    install_import_hook("sisom", "beartype.beartype")

import pytest
import torch


@pytest.fixture
def hand_bank():
    from sisom import Features, fit_bank

    saliency = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [3.0, 4.0]])
    features = Features(saliency, (("a", 2),), saliency, torch.zeros(4, 2))
    return fit_bank(features, torch.tensor([0, 0, 1, 1]), slopes=1.0)
