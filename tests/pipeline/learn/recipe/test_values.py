"""Recipes, weights of classes, and a loss's choice."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from pipeline.config.training import Augment, Train
from pipeline.learn.recipe.values import Loss, Recipe, class_weights
from pipeline.studies.sections import Training
from sisom.losses import cross_entropy, logit_norm

NAMES = ("cat", "dog", "owl")
TARGETS = np.array([0, 0, 0, 1])


def test_balanced_weights_by_hand() -> None:
    found = class_weights(Train(class_weights="balanced"), TARGETS, NAMES)
    assert found == pytest.approx((4 / (2 * 3), 4 / 2, 1.0))
    assert np.mean([found[target] for target in TARGETS]) == pytest.approx(1.0)
    assert class_weights(Train(), TARGETS, NAMES) is None
    assert class_weights(Train(class_weights={"dog": 3.0}), TARGETS, NAMES) == (1.0, 3.0, 1.0)


def test_every_loss_of_the_config_has_its_own_value() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.2, 0.1]])
    targets = torch.tensor([0, 1])
    weights = (1.0, 2.0, 3.0)
    wanted = {"cross-entropy": logits, "logit-norm": logit_norm(logits)}
    assert get_args(Train.model_fields["loss"].annotation) == tuple(wanted)
    for name, given in wanted.items():
        found = Loss(name, 0.1, weights).of(logits, targets)  # type: ignore[arg-type]
        assert torch.equal(found, cross_entropy(given, targets, smoothing=0.1, weights=torch.tensor(weights)))


def test_a_recipe_takes_every_option_of_a_round() -> None:
    train = Train(
        epochs=7, batch_size=4, lr=0.01, momentum=0.5, weight_decay=0.1, augment=Augment(mixup=1.0),
        optimizer="adamw", layer_decay=0.7, frozen_epochs=2, accumulate=3, loss="logit-norm", label_smoothing=0.1,
    )  # fmt: skip
    assert Recipe.of_round(train, (1.0, 2.0)) == Recipe(
        7, 4, 0.01, 0.5, 0.1, Augment(mixup=1.0), "adamw", 0.7, 2, 3, Loss("logit-norm", 0.1, (1.0, 2.0))
    )


def test_a_study_has_the_defaults_of_a_round() -> None:
    study, round_ = Recipe.plain(Training()), Recipe.of_round(Train())
    assert study.augment.model_dump().items() <= round_.augment.model_dump().items()
    assert Recipe.plain(Train()) == round_
