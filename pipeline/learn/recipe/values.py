"""The choices of a training as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config.training import Crops, Train
from sisom.losses import cross_entropy, logit_norm


class Options(Protocol):
    """Options that every training has."""

    @property
    def epochs(self) -> int: ...  # noqa: D102
    @property
    def batch_size(self) -> int: ...  # noqa: D102
    @property
    def lr(self) -> float: ...  # noqa: D102
    @property
    def momentum(self) -> float: ...  # noqa: D102
    @property
    def weight_decay(self) -> float: ...  # noqa: D102
    @property
    def augment(self) -> Crops: ...  # noqa: D102


@dataclass(frozen=True)
class Loss:
    """The loss of labeled images.

    weights  factor of each class, or None
    """

    name: Literal["cross-entropy", "logit-norm"] = "cross-entropy"
    smoothing: float = 0.0
    weights: tuple[float, ...] | None = None

    def of(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss; targets are classes or distributions."""
        if self.name == "logit-norm":
            logits = logit_norm(logits)
        weights = None if self.weights is None else logits.new_tensor(self.weights)
        return cross_entropy(logits, targets, smoothing=self.smoothing, weights=weights)


@dataclass(frozen=True)
class Recipe:
    """The choices of a training; `config.training.Train` tells their meaning."""

    epochs: int
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float
    augment: Crops
    optimizer: Literal["sgd", "adamw"] = "sgd"
    layer_decay: float = 1.0
    frozen_epochs: int = 0
    accumulate: int = 1
    loss: Loss = Loss()

    @classmethod
    def plain(cls, options: Options) -> Recipe:
        """Take the options that every training has; the rest are the defaults."""
        return cls(
            options.epochs, options.batch_size, options.lr, options.momentum, options.weight_decay,
            options.augment,
        )  # fmt: skip

    @classmethod
    def of_round(cls, train: Train, weights: tuple[float, ...] | None = None) -> Recipe:
        """Take all options of a round; `weights` are those of `class_weights`."""
        return replace(
            cls.plain(train),
            optimizer=train.optimizer,
            layer_decay=train.layer_decay,
            frozen_epochs=train.frozen_epochs,
            accumulate=train.accumulate,
            loss=Loss(train.loss, train.label_smoothing, weights),
        )


def class_weights(
    train: Train, targets: NDArray[np.int64], taxonomy: Sequence[str]
) -> tuple[float, ...] | None:
    """Return the factor of each class in the loss.

    None without any.

    `balanced` is n / (K n_k) for a class with n_k of the n rows, K such classes: its mean over the rows is 1. A class
    without rows, or that the config does not name, has 1.
    """
    if train.class_weights == "none":
        return None
    if isinstance(train.class_weights, dict):
        return tuple(train.class_weights.get(name, 1.0) for name in taxonomy)
    counts = np.bincount(targets, minlength=len(taxonomy))
    present = int((counts > 0).sum())
    return tuple(len(targets) / (present * count) if count else 1.0 for count in counts.tolist())
