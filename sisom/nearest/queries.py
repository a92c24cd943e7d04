"""Queries of a search."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Queries"]


@dataclass(frozen=True, eq=False)
class Queries:
    """n queries of d columns.

    Args:
        points: float32.
        classes: the class that is inside for each query; all others are outside.
        hidden: the position among the searched points that each query may not see, -1 for none.
    """

    points: Float[Tensor, "n d"]
    classes: Int[Tensor, " n"]
    hidden: Int[Tensor, " n"] | None = None

    @classmethod
    def of_one_class(cls, points: Float[Tensor, "n d"], hidden: Int[Tensor, " n"] | None = None) -> Queries:
        """Ask for neighbors among points whose classes do not matter; see `SortedPoints.of_one_class`."""
        return cls(points, torch.zeros(len(points), dtype=torch.int64, device=points.device), hidden)

    def __len__(self) -> int:
        return len(self.points)

    def at(self, rows: Tensor | slice) -> Queries:
        """Select the queries at `rows`, in that order."""
        hidden = None if self.hidden is None else self.hidden[rows]
        return Queries(self.points[rows], self.classes[rows], hidden)
