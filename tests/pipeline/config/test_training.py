"""Rules of the config of training."""

from __future__ import annotations

import pytest

from pipeline.config.load import parse
from pipeline.config.training import ColorJitter, RandomResizedCrop, Train
from pipeline.errors import ConfigError

PLAIN = "workspace: w\ntaxonomy: [cat, dog]\npool: {uri: p}\noracle: {kind: simulated, truth: t}\n"


def of(text: str) -> Train:
    return parse(f"{PLAIN}train: {text}\n", "x.yaml").train


def test_changes_are_taken_by_name_with_their_values_or_defaults() -> None:
    augment = of(
        "{augment: {random_resized_crop: {scale: [0.5, 1.0]}, color_jitter: {}, mixup: 0.2}}"
    ).augment
    assert augment.random_resized_crop == RandomResizedCrop(scale=(0.5, 1.0))
    assert augment.color_jitter == ColorJitter()
    assert (augment.mixup, augment.cutmix, augment.pad) == (0.2, None, 4)


def test_class_weights_have_three_forms() -> None:
    assert of("{}").class_weights == "none"
    assert of("{class_weights: balanced}").class_weights == "balanced"
    assert of("{class_weights: {dog: 2.5}}").class_weights == {"dog": 2.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{optimizer: adamw}", "lr: 0.1 is a rate for sgd; adamw moves each weight by about lr a step"),
        ("{optimizer: adamw, lr: 0.001, momentum: 1.0}", "momentum: adamw needs one below 1"),
        ("{optimizer: adam}", "train.optimizer: input should be 'sgd' or 'adamw'"),
        ("{epochs: 3, frozen_epochs: 3}", r"frozen_epochs \(3\) must be below epochs \(3\)"),
        ("{patience: 3, held_out: 0.0}", "patience: needs held_out above 0"),
        ("{layer_decay: 0.0}", "train.layer_decay: input should be greater than 0"),
        ("{label_smoothing: 1.0}", "train.label_smoothing: input should be less than 1"),
        ("{average: 1.0}", "train.average: input should be less than 1"),
        ("{accumulate: 0}", "train.accumulate: input should be greater than or equal to 1"),
        ("{loss: focal}", "train.loss: input should be 'cross-entropy' or 'logit-norm'"),
        ("{class_weights: {dgo: 2.0}}", "train.class_weights: 'dgo' is not in the taxonomy; .*dog"),
        ("{augment: {trivial_augment: true, rand_augment: {}}}", "choose rand_augment or trivial_augment"),
        ("{augment: {random_resized_crop: {scale: [0.9, 0.5]}}}", "smaller end first, above 0: got 0.9 and 0.5"),
        ("{augment: {random_resized_crop: {scale: [0.0, 0.5]}}}", "smaller end first, above 0: got 0 and 0.5"),
        ("{augment: {mixup: 0.0}}", "train.augment.mixup: input should be greater than 0"),
        ("{augment: {rand_augment: {magnitude: 31}}}", "train.augment.rand_augment.magnitude: input should be less"),
    ],
)  # fmt: skip
def test_nonsense_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        of(text)
