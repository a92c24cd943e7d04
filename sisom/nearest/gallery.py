"""Bank points laid out for searching: sorted by class, with what every search needs computed once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Gallery"]


@dataclass(frozen=True, eq=False)
class Gallery:
    """m points of d columns in ascending order of `labels`; the points are used where they lie, never copied.

    norms     squared Euclidean norms
    longest   the largest Euclidean norm, for the error bound of matrix products
    """

    points: Float[Tensor, "m d"]
    labels: Int[Tensor, " m"]
    norms: Float[Tensor, " m"]
    longest: float

    @classmethod
    def of(cls, points: Float[Tensor, "m d"], labels: Int[Tensor, " m"]) -> Gallery:
        """Lay out class-sorted points."""
        norms = torch.cat(
            [part.double().square().sum(dim=1) for part in torch.split(points, 8192)] or [points.sum(1)]
        )
        longest = float(norms.max().sqrt()) if len(norms) else 0.0
        return cls(points, labels, norms.float(), longest)

    def __len__(self) -> int:
        return len(self.points)

    def span(self, classes: Int[Tensor, " n"]) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
        """First position of each class and the position after its last; equal for a class without points."""
        labels, classes = self.labels.contiguous(), classes.contiguous()  # torch warns about anything else
        return torch.searchsorted(labels, classes), torch.searchsorted(labels, classes, right=True)

    def only(self, start: int, stop: int) -> Gallery:
        """The points at positions `start` to `stop`, as a view."""
        part = slice(start, stop)
        return Gallery(self.points[part], self.labels[part], self.norms[part], self.longest)
