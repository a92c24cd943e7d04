"""Shapes in annotations are enforced here: every call in these tests is checked against them."""

import os
import sys
from types import ModuleType

import pytest
import torch
from jaxtyping import install_import_hook

if "sisom" not in sys.modules:
    # Left in place for the whole run: modules imported later are checked too.
    install_import_hook("sisom", "beartype.beartype")

# Layers this small are only slowed down by more, and by much where tests share the processors.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The slow independent implementation."""
    from tests.support import reference

    return reference


def make_features(n=60, classes=4, dims=(("a", 3), ("b", 5)), seed=0, spread=0.5):
    """Features of `n` rows in `classes` loose clusters, and their labels."""
    from sisom import Features

    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    width = sum(dim for _, dim in dims)
    centers = torch.randn(classes, width, generator=generator)
    saliency = centers[labels] + spread * torch.randn(n, width, generator=generator)
    logits = 2 * torch.nn.functional.one_hot(labels, classes) + torch.randn(n, classes, generator=generator)
    return Features(saliency, dims, saliency[:, :2].clone(), logits), labels


@pytest.fixture
def make():
    return make_features


@pytest.fixture
def hand_bank():
    from sisom import Features, fit_bank

    saliency = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [3.0, 4.0]])
    features = Features(saliency, (("a", 2),), saliency, torch.zeros(4, 2))
    return fit_bank(features, torch.tensor([0, 0, 1, 1]), slopes=1.0)


@pytest.fixture(scope="session")
def trained(trained_seed):
    """A small net that knows scikit-learn's digits 0 to 4, with images, labels and the digits 5 to 9.

    The learning rate falls to zero, so that the net has settled and other roundings or seeds make it no worse.
    """
    from sklearn.datasets import load_digits

    from sisom import build_model

    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 8 - 1
    images = torch.nn.functional.interpolate(images, size=(16, 16), mode="bilinear").expand(-1, 3, -1, -1)
    labels = torch.tensor(data.target)
    known = labels < 5
    x, y = images[known].contiguous(), labels[known]
    model = build_model("resnet10_w16", 5, seed=trained_seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)
    generator = torch.Generator().manual_seed(trained_seed)
    for _ in range(60):
        batch = torch.randint(0, 600, (64,), generator=generator)
        loss = torch.nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
    return model.eval(), x, y, images[~known][:200].contiguous()
