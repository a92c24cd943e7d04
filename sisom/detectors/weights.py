"""Detectors that look at the last layer's weights or their gradient."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.checks import check_features
from sisom.detectors.base import check_fit, check_width, needed, strangeness
from sisom.errors import InputError
from sisom.network.head import Head
from sisom.rowwise import rowwise
from sisom.types import Features

__all__ = ["DiceDetector", "GradNormDetector"]


@dataclass(frozen=True, eq=False)
class DiceDetector:
    """DICE (Sun and Li 2022): energy by the most contributing weights.

    Those are the weights whose mean contribution is above a percentile.
    """

    percentile: float = 90.0
    head: Head | None = None

    needs = frozenset({"head"})

    def __post_init__(self) -> None:
        if not 0 <= self.percentile < 100:
            raise InputError(f"the percentile must lie in [0, 100), got {self.percentile}")

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> Head:
        """Set the head's other weights to zero."""
        check_fit(features, labels)
        head = needed(self.head, features)
        weight = head.weight.double()
        contribution = features.penultimate.double().mean(dim=0).to(weight.device) * weight
        least = float(np.percentile(contribution.cpu().numpy(), self.percentile))
        return Head(torch.where(contribution > least, weight, 0.0), head.bias.double())

    def score(self, state: Head, features: Features) -> Float[Tensor, " n"]:
        """Score each row; see `Detector`."""
        check_features(features)
        check_width(features, state.weight.shape[1])
        return strangeness(rowwise(lambda h: -torch.logsumexp(state.logits(h), dim=1), features.penultimate))


@dataclass(frozen=True)
class GradNormDetector:
    """GradNorm (Huang et al. 2021): size of the last weights' gradient, negative.

    The size is the L1 norm. The gradient is that of the cross-entropy with a target of one for every class. It is the
    outer product of `K (p - 1/K)` and `h`, so its norm is the product of their norms: no backward pass, and no need of
    the weights.
    """

    needs = frozenset[str]()

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> tuple[()]:
        """Check the rows; nothing is fitted. See `Detector`."""
        check_fit(features, labels)
        return ()

    def score(self, state: tuple[()], features: Features) -> Float[Tensor, " n"]:  # noqa: ARG002
        """Score each row; see `Detector`."""
        check_features(features)
        return strangeness(rowwise(_negative_norm, features.logits, features.penultimate))


def _negative_norm(logits: Tensor, h: Tensor) -> Tensor:
    pull = logits.shape[1] * torch.softmax(logits, dim=1) - 1
    return -pull.abs().sum(dim=1) * h.abs().sum(dim=1)
