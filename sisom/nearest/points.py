"""Points laid out for the search, sorted by class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["SortedPoints"]

_ROWS = 8192  # whose norms are summed at a time, in float64


@dataclass(frozen=True, eq=False)
class SortedPoints:
    """m points of d columns in ascending order of their labels.

    The points are used where they lie, never copied.

    Args:
        points: float32.
        labels: the class of each point, ascending.
        norms: squared Euclidean norms.
        longest: the largest Euclidean norm, for the error bound of matrix products.
    """

    points: Float[Tensor, "m d"]
    labels: Int[Tensor, " m"]
    norms: Float[Tensor, " m"]
    longest: float

    @classmethod
    def of(cls, points: Float[Tensor, "m d"], labels: Int[Tensor, " m"]) -> SortedPoints:
        """Lay out points that are sorted by class already."""
        norms = torch.cat(
            [part.double().square().sum(dim=1) for part in torch.split(points, _ROWS)] or [points.sum(1)]
        )
        longest = float(norms.max().sqrt()) if len(norms) else 0.0
        return cls(points, labels, norms.float(), longest)

    @classmethod
    def of_one_class(cls, points: Float[Tensor, "m d"]) -> SortedPoints:
        """Lay out points whose classes do not matter.

        All are of class 0.
        """
        return cls.of(points, torch.zeros(len(points), dtype=torch.int64, device=points.device))

    def __len__(self) -> int:
        return len(self.points)

    def span(self, classes: Int[Tensor, " n"]) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
        """Find the first position of each class and the one after it.

        Both are equal for a class without points.
        """
        labels, classes = self.labels.contiguous(), classes.contiguous()  # torch warns about anything else
        return torch.searchsorted(labels, classes), torch.searchsorted(labels, classes, right=True)

    def only(self, start: int, stop: int) -> SortedPoints:
        """Return a view of the points at positions `start` to `stop`."""
        part = slice(start, stop)
        return SortedPoints(self.points[part], self.labels[part], self.norms[part], self.longest)
