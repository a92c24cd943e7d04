"""k-means that does not depend on threads.

Seeds are drawn by hashes, and sums are added in the order of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.rowwise import row_tiles
from sisom.selectors.blocks import Block, Race, pick_greedily
from sisom.selectors.coreset import Rows

__all__ = ["kmeans"]

_TILE = 4096
_ROUNDS = 20


class _Seeds(Block[Rows]):
    """k-means++ seeds, drawn in proportion to squared distances."""

    def __init__(self, ids: Sequence[str], rows: Tensor, seed: int) -> None:
        super().__init__(ids, _Squared(rows))
        self._race = Race(ids, seed)

    def _first(self) -> Tensor:
        return self._race.rates(0)

    def _weight(self) -> Tensor:
        return self._race.rates(self.count)


class _Squared(Rows):
    def at(self, rows: Tensor) -> _Squared:
        return _Squared(self.values[rows])

    def join(self, others: Rows) -> _Squared:
        return _Squared(torch.cat([self.values, others.values]))

    def measure(self, others: Rows) -> Tensor:
        return (self.values - others.values).square_().sum(dim=1)


def kmeans(rows: Float[Tensor, "n p"], count: int, *, seed: int) -> Int[Tensor, " n"]:
    """Cluster rows by Lloyd's iteration from a k-means++ start.

    It ends when nothing moves, or after 20 rounds.

    There are at most `count` clusters: copies of a seed share one.
    """
    names = [f"{row:012d}" for row in range(len(rows))]
    seeds = pick_greedily([_Seeds(names, rows, seed)], count)
    centers = torch.unique(rows[[row for _, row in seeds]], dim=0)
    cluster = _nearest(rows, centers)
    for _ in range(_ROUNDS):
        members = torch.bincount(cluster, minlength=len(centers))
        sums = torch.zeros(len(centers), rows.shape[1], dtype=torch.float64)
        sums.index_add_(0, cluster, rows.double())
        moved = (sums / members.clamp(min=1)[:, None]).float()
        centers = torch.where(members[:, None] > 0, moved, centers)
        before, cluster = cluster, _nearest(rows, centers)
        if torch.equal(before, cluster):
            break
    return cluster


def _nearest(rows: Tensor, centers: Tensor) -> Tensor:
    norms = centers.square().sum(dim=1)
    parts = [
        torch.addmm(norms, rows[tile], centers.T, alpha=-2).argmin(dim=1)
        for tile in row_tiles(len(rows), _TILE)
    ]
    return torch.cat(parts)
