"""Selectors that ask where one softmax is unsure.

All are functions of a row's logits, in float64.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sisom.rowwise import rowwise
from sisom.selectors.base import RowSelector, features_of
from sisom.softmax import doubt, entropy
from sisom.types import Candidates

__all__ = ["EntropySelector", "LeastConfidenceSelector", "MarginSelector"]


class _LogitsSelector(RowSelector):
    needs = frozenset({"features"})


@dataclass(frozen=True)
class LeastConfidenceSelector(_LogitsSelector):
    """The chance that the prediction is wrong, `1 - max p`."""

    def priority_of(self, pool: Candidates, *, seed: int) -> Float[Tensor, " n"]:  # noqa: ARG002
        """Rank by the logits; see `RowSelector`."""
        return rowwise(doubt, features_of(pool).logits)


@dataclass(frozen=True)
class MarginSelector(_LogitsSelector):
    """The two most probable classes close together, `p(2) - p(1)`."""

    def priority_of(self, pool: Candidates, *, seed: int) -> Float[Tensor, " n"]:  # noqa: ARG002
        """Rank by the logits; see `RowSelector`."""
        return rowwise(_negative_margin, features_of(pool).logits)


@dataclass(frozen=True)
class EntropySelector(_LogitsSelector):
    """The entropy of the softmax in nats."""

    def priority_of(self, pool: Candidates, *, seed: int) -> Float[Tensor, " n"]:  # noqa: ARG002
        """Rank by the logits; see `RowSelector`."""
        return rowwise(entropy, features_of(pool).logits)


def _negative_margin(logits: Tensor) -> Tensor:
    probabilities = torch.nn.functional.pad(
        torch.softmax(logits, dim=1), (0, 1)
    )  # a second one for one class
    first, second = probabilities.topk(2, dim=1).values.unbind(dim=1)
    return second - first
