"""CoreSet (Sener and Savarese 2018): exact greedy k-center."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.nearest.distances import neighbors
from sisom.nearest.points import SortedPoints
from sisom.nearest.queries import Queries
from sisom.selectors.base import features_of
from sisom.selectors.blocks import Block, GreedySelector
from sisom.selectors.random import draws
from sisom.types import Candidates, Labeled

__all__ = ["CoreSetSelector", "KCenterBlock", "Rows"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows with the Euclidean distance, computed from the difference: nothing cancels."""

    values: Float[Tensor, "n p"]

    def at(self, rows: Int[Tensor, " r"]) -> Rows:
        """See `Points`."""
        return Rows(self.values[rows])

    def join(self, others: Rows) -> Rows:
        """See `Points`."""
        return Rows(torch.cat([self.values, others.values]))

    def measure(self, others: Rows) -> Float[Tensor, " n"]:
        """See `Points`."""
        return (self.values - others.values).square_().sum(dim=1).sqrt_()


class KCenterBlock(Block[Rows]):
    """Rows of the pool and their distance to the nearest center.

    Centers are the labeled rows at first, then picks too. Without a labeled row the first pick is drawn at random, by
    the seed and the id.
    """

    def __init__(
        self,
        ids: Sequence[str],
        penultimate: Float[Tensor, "n p"],
        labeled: Float[Tensor, "m p"] | None,
        *,
        seed: int,
    ) -> None:
        super().__init__(ids, Rows(penultimate.detach().cpu().float()))
        self._seed = seed
        if labeled is not None and len(labeled):
            centers = SortedPoints.of_one_class(labeled.detach().cpu().float())
            near = neighbors(Queries.of_one_class(self.points.values), centers, inner=1, outer=0)
            self._bound, self._measured = near.inner[:, 0].double(), True

    def _first(self) -> Tensor:
        return draws(self.ids, self._seed)


@dataclass(frozen=True)
class CoreSetSelector(GreedySelector):
    """CoreSet: farthest first from all labeled and picked rows.

    Distances are those of penultimate features.
    """

    needs = frozenset({"features", "labeled"})

    def block(self, pool: Candidates, labeled: Labeled, *, seed: int) -> Block[Any]:
        """Make a block of rows; see `GreedySelector`."""
        known = features_of(labeled).penultimate if len(labeled) else None
        return KCenterBlock(pool.ids, features_of(pool).penultimate, known, seed=seed)
