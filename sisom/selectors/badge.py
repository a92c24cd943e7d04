"""BADGE (Ash et al. 2020): k-means++ over gradients that predictions would cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.rowwise import rowwise
from sisom.selectors.base import features_of
from sisom.selectors.blocks import Block, GreedySelector, Race
from sisom.types import Candidates, Features, Labeled

__all__ = ["BadgeBlock", "BadgeSelector", "Gradients"]


@dataclass(frozen=True, eq=False)
class Gradients:
    """Outer products `pull x h`, kept as their two factors.

    That is n (K + p) numbers, never n K p. The squared distance of two is `|a|^2 |h|^2 + |b|^2 |g|^2 - 2 (a.b)(h.g)`,
    in float64; of two equal rows it is exactly zero.
    """

    pull: Float[Tensor, "n K"]
    h: Float[Tensor, "n p"]
    squared: Float[Tensor, " n"]  # norms

    @classmethod
    def of(cls, features: Features) -> Gradients:
        """Take the gradients of the cross-entropy to the predicted class.

        They are with respect to the last layer's weights.
        """
        pull = rowwise(lambda logits: _pull(logits).float(), features.logits).cpu()
        h = features.penultimate.detach().float().cpu()
        return cls(pull, h, rowwise(lambda a, h: _dot(a, a) * _dot(h, h), pull, h))

    def at(self, rows: Int[Tensor, " r"]) -> Gradients:
        """Select rows; see `Points`."""
        return Gradients(self.pull[rows], self.h[rows], self.squared[rows])

    def join(self, others: Gradients) -> Gradients:
        """Join rows; see `Points`.

        In float64, as they will be measured: the same centers again and again.
        """
        pairs = ((self.pull, others.pull), (self.h, others.h), (self.squared, others.squared))
        return Gradients(*(torch.cat([a.double(), b.double()]) for a, b in pairs))

    def measure(self, others: Gradients) -> Float[Tensor, " n"]:
        """Measure squared distances; see `Points`."""
        product = _dot(self.pull.double(), others.pull.double()) * _dot(self.h.double(), others.h.double())
        return (self.squared + others.squared - 2 * product).clamp(min=0)


class BadgeBlock(Block[Gradients]):
    """Rows of the pool and their squared distance to the nearest pick.

    The first pick is the longest gradient.
    """

    def __init__(self, ids: Sequence[str], gradients: Gradients, *, seed: int) -> None:
        super().__init__(ids, gradients)
        self._race = Race(ids, seed)

    def _first(self) -> Tensor:
        return self.points.squared

    def _weight(self) -> Tensor:
        return self._race.rates(self.count)


@dataclass(frozen=True)
class BadgeSelector(GreedySelector):
    """BADGE: the longest gradient first, then draws by squared distance.

    Each row has a chance in proportion to its squared distance to the picks.
    """

    needs = frozenset({"features"})

    def block(self, pool: Candidates, labeled: Labeled, *, seed: int) -> Block[Any]:  # noqa: ARG002
        """Make a block of gradients; see `GreedySelector`."""
        return BadgeBlock(pool.ids, Gradients.of(features_of(pool)), seed=seed)


def _pull(logits: Tensor) -> Tensor:
    """Compute `p - onehot(argmax p)`.

    The entry of the predicted class is minus the sum of the others, which is exact.
    """
    predicted = logits.argmax(dim=1, keepdim=True)
    others = torch.softmax(logits, dim=1).scatter(1, predicted, 0.0)
    return others.scatter(1, predicted, -others.sum(dim=1, keepdim=True))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=1)
