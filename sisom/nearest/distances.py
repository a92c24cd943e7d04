"""Exact inner and outer distances (section 6.1).

A query's inner neighbors are of its own class, its outer ones of all other classes.

Shortlists come from a matrix product (`tiles`), distances are measured pair by pair (`exact`). A result is therefore
a function of each pair alone: bit-equal however the queries are cut into batches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.nearest.exact import measured
from sisom.nearest.points import SortedPoints
from sisom.nearest.queries import Queries
from sisom.nearest.tiles import BUDGET_BYTES, Tile, tiles

__all__ = ["BUDGET_BYTES", "Neighbors", "neighbors"]


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The nearest points of n queries, near to far.

    Ties go to the lower position, but for distances of zero. A place without a point has distance infinity and index
    -1.
    """

    inner: Float[Tensor, "n i"]
    inner_index: Int[Tensor, "n i"]
    outer: Float[Tensor, "n o"]
    outer_index: Int[Tensor, "n o"]


def neighbors(
    queries: Queries, points: SortedPoints, *, inner: int, outer: int, budget_bytes: int = BUDGET_BYTES
) -> Neighbors:
    """Find the nearest points of each query's class and of the others.

    Exact, whatever the size of a batch.

    Args:
        queries: n points with their classes.
        points: the points that are searched.
        inner: how many neighbors of the query's class.
        outer: how many neighbors of other classes.
        budget_bytes: about how much scratch memory is used, whatever the number of queries and points.
    """
    search = _Search(points, inner, outer, budget_bytes)
    return search.by_class(queries) if outer == 0 and inner > 0 else search.all_at_once(queries)


@dataclass(frozen=True, eq=False)
class _Search:
    points: SortedPoints
    inner: int
    outer: int
    budget_bytes: int

    def by_class(self, queries: Queries) -> Neighbors:
        """Search each class's own block, where there is no outer side.

        That is K times less work for K classes.
        """
        n, device = len(queries), queries.points.device
        distance = queries.points.new_full((n, self.inner), torch.inf)
        index = torch.full((n, self.inner), -1, dtype=torch.int64, device=device)
        present = torch.unique(queries.classes)
        spans = (side.tolist() for side in self.points.span(present))
        for c, start, stop in zip(present, *spans, strict=True):
            if start == stop:
                continue
            rows = (queries.classes == c).nonzero().flatten()
            asked = queries.at(rows)
            if asked.hidden is not None:
                asked = replace(asked, hidden=(asked.hidden - start).clamp(min=-1))
            block = _Search(self.points.only(start, stop), self.inner, 0, self.budget_bytes)
            near = block.all_at_once(asked)
            distance[rows] = near.inner
            index[rows] = torch.where(near.inner_index >= 0, near.inner_index + start, -1)
        return Neighbors(distance, index, distance[:, :0], index[:, :0])

    def all_at_once(self, queries: Queries) -> Neighbors:
        """Search tile after tile of queries."""
        parts = [self._tile(tile) for tile in tiles(queries, self.points, self.budget_bytes)]
        if not parts:
            value, index = queries.points.new_empty((0, 1)), queries.classes.new_empty((0, 1))
            shapes = (self.inner, self.outer)
            return Neighbors(*(part.expand(0, size) for size in shapes for part in (value, index)))
        return Neighbors(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _tile(self, tile: Tile) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        inside, outside = tile.shortlists(self.inner, self.outer)
        return (
            *measured(tile, inside, self.inner, same=True),
            *measured(tile, outside, self.outer, same=False),
        )
