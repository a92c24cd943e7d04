"""Detectors that look at the logits alone."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.checks import check_features
from sisom.detectors.base import check_fit, strangeness
from sisom.errors import InputError
from sisom.rowwise import rowwise
from sisom.softmax import doubt
from sisom.types import Features

__all__ = ["EnergyDetector", "GenDetector", "MaxLogitDetector", "MspDetector", "TempScaleDetector"]

State = TypeVar("State")


class _LogitsDetector(ABC, Generic[State]):
    needs = frozenset[str]()

    def score(self, state: State, features: Features) -> Float[Tensor, " n"]:
        """Score each row; see `Detector`."""
        check_features(features)
        return strangeness(rowwise(lambda logits: self._strange(state, logits), features.logits))

    @abstractmethod
    def _strange(self, state: State, logits: Tensor) -> Tensor: ...


class _Unfitted(_LogitsDetector[tuple[()]]):
    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> tuple[()]:
        """Check the rows; nothing is fitted. See `Detector`."""
        check_fit(features, labels)
        return ()


@dataclass(frozen=True)
class MspDetector(_Unfitted):
    """MSP (Hendrycks and Gimpel 2017): `1 - max p` of the softmax."""

    def _strange(self, state: tuple[()], logits: Tensor) -> Tensor:  # noqa: ARG002
        return doubt(logits)


@dataclass(frozen=True)
class MaxLogitDetector(_Unfitted):
    """The largest logit, negative (Hendrycks et al. 2022)."""

    def _strange(self, state: tuple[()], logits: Tensor) -> Tensor:  # noqa: ARG002
        return -logits.amax(dim=1)


@dataclass(frozen=True)
class EnergyDetector(_Unfitted):
    """`-logsumexp` of the logits (Liu et al. 2020): the energy of `Scores`."""

    def _strange(self, state: tuple[()], logits: Tensor) -> Tensor:  # noqa: ARG002
        return -torch.logsumexp(logits, dim=1)


@dataclass(frozen=True)
class GenDetector(_Unfitted):
    """GEN (Liu et al. 2023): generalised entropy of the `largest` probabilities.

    That is `sum p^gamma (1 - p)^gamma`.
    """

    gamma: float = 0.1
    largest: int = 100

    def __post_init__(self) -> None:
        if not self.gamma > 0 or self.largest < 1:
            raise InputError(
                f"gamma must be positive and largest at least 1, got {self.gamma} and {self.largest}"
            )

    def _strange(self, state: tuple[()], logits: Tensor) -> Tensor:  # noqa: ARG002
        logs = torch.log_softmax(logits, dim=1)
        logs = logs.topk(min(self.largest, logs.shape[1]), dim=1).values
        return (self.gamma * logs).exp().mul((-torch.expm1(logs)) ** self.gamma).sum(dim=1)


@dataclass(frozen=True)
class TempScaleDetector(_LogitsDetector[float]):
    """MSP at the temperature that fits the labels (Guo et al. 2017).

    Rows that the model was not trained on are the ones to fit: on training rows it is overconfident.
    """

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> float:
        """Find the temperature, in [0.1, 100].

        The likelihood is concave in its inverse, so halving finds the maximum.
        """
        check_fit(features, labels)
        logits = features.logits.detach().double()
        target = logits.gather(1, labels.to(logits.device, torch.int64)[:, None])[:, 0].mean()
        low, high = 0.1, 100.0
        for _ in range(60):
            middle = math.sqrt(low * high)
            expected = (torch.softmax(logits / middle, dim=1) * logits).sum(dim=1).mean()
            low, high = (middle, high) if float(expected) > float(target) else (low, middle)
        return math.sqrt(low * high)

    def _strange(self, state: float, logits: Tensor) -> Tensor:
        return doubt(logits / state)
