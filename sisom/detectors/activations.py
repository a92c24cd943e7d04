"""Detectors that reshape penultimate activations.

The score is the energy of the logits that follow.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.checks import check_features
from sisom.detectors.base import check_fit, needed, strangeness
from sisom.errors import InputError
from sisom.network.head import Head
from sisom.rowwise import rowwise
from sisom.types import Features

__all__ = ["AshDetector", "ReActDetector", "ScaleDetector"]

State = TypeVar("State")


@dataclass(frozen=True, eq=False)
class _Reshaping(ABC, Generic[State]):
    percentile: float = 90.0
    head: Head | None = None

    needs = frozenset({"head"})

    def __post_init__(self) -> None:
        if not 0 <= self.percentile <= 99:
            raise InputError(f"the percentile must lie in 0 to 99, got {self.percentile}")

    def score(self, state: State, features: Features) -> Float[Tensor, " n"]:
        """Score each row; see `Detector`."""
        check_features(features)
        head = needed(self.head, features)
        return strangeness(
            rowwise(
                lambda h: -torch.logsumexp(head.logits(self._reshape(state, h)), dim=1),
                features.penultimate,
            )
        )

    @abstractmethod
    def _reshape(self, state: State, h: Tensor) -> Tensor: ...

    def _count(self, width: int) -> int:
        """Count the activations of a row above its percentile; at least one."""
        return max(1, width - round(width * self.percentile / 100))


@dataclass(frozen=True, eq=False)
class ReActDetector(_Reshaping[float]):
    """ReAct (Sun et al. 2021): activations cut off at a percentile.

    The percentile is of all fitted activations; rows that the model was not trained on are the ones to fit.
    """

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> float:
        """Find the value at which activations are cut off."""
        check_fit(features, labels)
        needed(self.head, features)
        return float(np.percentile(features.penultimate.detach().cpu().double().numpy(), self.percentile))

    def _reshape(self, state: float, h: Tensor) -> Tensor:
        return h.clamp(max=state)


class _Unfitted(_Reshaping[tuple[()]]):
    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> tuple[()]:
        """Check the rows; nothing is fitted. See `Detector`."""
        check_fit(features, labels)
        needed(self.head, features)
        return ()


@dataclass(frozen=True, eq=False)
class AshDetector(_Unfitted):
    """ASH-B (Djurisic et al. 2023): a row's largest activations share its sum.

    The others are dropped.
    """

    def _reshape(self, state: tuple[()], h: Tensor) -> Tensor:  # noqa: ARG002
        count = self._count(h.shape[1])
        kept = h.argsort(dim=1, descending=True, stable=True)[:, :count]  # ties to the earlier neuron
        share = (h.sum(dim=1, keepdim=True) / count).expand(-1, count)
        return torch.zeros_like(h).scatter(1, kept, share)


@dataclass(frozen=True, eq=False)
class ScaleDetector(_Unfitted):
    """SCALE (Xu et al. 2024): rows scaled by their largest activations' share.

    A row is multiplied by the exponential of its sum over the sum of its largest activations.
    """

    percentile: float = 85.0

    def _reshape(self, state: tuple[()], h: Tensor) -> Tensor:  # noqa: ARG002
        total = h.sum(dim=1, keepdim=True)
        largest = h.topk(self._count(h.shape[1]), dim=1).values.sum(dim=1, keepdim=True)
        # Without a positive activation there is nothing to compare; the ratio is then one.
        ratio = torch.where(largest > 0, total / largest.clamp(min=torch.finfo(h.dtype).tiny), 1.0)
        return h * ratio.exp()
