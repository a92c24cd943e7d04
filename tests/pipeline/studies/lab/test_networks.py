"""Training inside studies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.config.sections import Model
from pipeline.config.training import Crops
from pipeline.learn.epoch import Course, ExamplesInMemory, Exposure
from pipeline.learn.recipe.values import Recipe
from pipeline.model.weights import new_network
from pipeline.studies.lab.networks import embed, fit, load, predict
from pipeline.studies.sections import Training
from sisom.network.models import save_weights
from tests.support.seeds import trained_seed

pytestmark = pytest.mark.usefixtures("one_thread")

MODEL = Model(name="resnet10_w16", image_size=8)


def two_classes(n: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Dark and bright images."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    pixels = rng.integers(0, 90, (n, 3, 8, 8)) + 150 * labels[:, None, None, None]
    return pixels.astype(np.uint8), labels.astype(np.int64)


def trained(exposure: Exposure | None = None) -> torch.nn.Module:
    pixels, labels = two_classes()
    training = Training(epochs=12, batch_size=16, lr=0.05, augment=Crops(pad=0, flip=False))
    net = new_network(MODEL, 2, seed=3 + trained_seed())
    examples, rows = ExamplesInMemory(pixels, labels), np.arange(len(labels))
    return fit(
        net,
        Course(examples, rows, MODEL, Recipe.plain(training), 5 + trained_seed(), exposure=exposure),
        device="cpu",
    )


def test_training_learns_and_repeats_itself() -> None:
    pixels, labels = two_classes()
    first, again = trained(), trained()
    assert save_weights(first) == save_weights(again)
    logits = predict(first, pixels, MODEL, batch_size=7)
    assert float((logits.argmax(1).numpy() == labels).mean()) > 0.9
    back = load(MODEL, 2, save_weights(first), device="cpu")
    found = embed(back, [pixels[:5], pixels[5:]], MODEL, layers=("layer3", "avgpool"), batch_size=16)
    assert torch.allclose(found.logits, logits, atol=1e-4)
    assert found.layers == ("layer3", "avgpool")


def test_exposure_makes_the_network_unsure_of_outliers() -> None:
    outliers = np.random.default_rng(1).integers(0, 255, (30, 3, 8, 8)).astype(np.uint8)

    def surest(net: torch.nn.Module) -> float:
        return float(torch.softmax(predict(net, outliers, MODEL, batch_size=30), 1).amax(1).mean())

    assert surest(trained(Exposure(outliers, 2.0))) < surest(trained()) - 0.05
