"""Inner and outer distances (section 6.1): the nearest bank points of the query's class and of all others.

A matrix product finds candidates quickly but not exactly. Each candidate's distance is then the norm of the
float32 difference, computed pair by pair, and a bound on the product's rounding proves that no other point can
be nearer; where the proof fails, every point that could be is measured. The result is therefore a function of
each pair alone: bit-equal however the queries are cut into batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.nearest.flat import flat_candidates
from sisom.nearest.gallery import Gallery
from sisom.nearest.tiles import GROUP, Candidates, Tile
from sisom.rowwise import row_tiles

__all__ = ["BUDGET_BYTES", "Backend", "Neighbors", "neighbors"]

Backend = Literal["torch", "faiss"]

BUDGET_BYTES = 128 << 20
_MOST_ROWS = 1024
_LEAST_ROWS = 64
_FLAT_ROWS = 16384
_PAIRS = {"cpu": 512, "cuda": 4096}  # differences at a time: on a CPU they stay in the cache
_UNIT = 2.0**-24  # rounding unit of float32
_TF32_UNIT = 2.0**-10


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The nearest points of n queries, near to far; ties to the lower position, but for distances of zero.

    A place without a point has distance infinity and index -1.
    """

    inner: Float[Tensor, "n i"]
    inner_index: Int[Tensor, "n i"]
    outer: Float[Tensor, "n o"]
    outer_index: Int[Tensor, "n o"]


def neighbors(
    queries: Float[Tensor, "n d"],
    classes: Int[Tensor, " n"],
    gallery: Gallery,
    *,
    inner: int,
    outer: int,
    exclude: Int[Tensor, " n"] | None = None,
    budget_bytes: int = BUDGET_BYTES,
    backend: Backend = "torch",
) -> Neighbors:
    """The `inner` nearest points of each query's class and the `outer` nearest of other classes.

    exclude        the position of the gallery point that each query may not see, -1 for none
    budget_bytes   about how much scratch memory is used, whatever the number of queries and points
    backend        "torch", or "faiss" whose flat search finds the candidates; the results are equal
    """
    search = _Search(gallery, inner, outer, budget_bytes, backend)
    if outer == 0 and inner > 0:
        return search.by_class(queries, classes, exclude)
    return search.all_at_once(queries, classes, exclude)


@dataclass(frozen=True, eq=False)
class _Search:
    gallery: Gallery
    inner: int
    outer: int
    budget_bytes: int
    backend: Backend

    def by_class(self, queries: Tensor, classes: Tensor, exclude: Tensor | None) -> Neighbors:
        """Without an outer side a query needs its own class's block only: K times less work for K classes."""
        n = len(queries)
        distance = queries.new_full((n, self.inner), torch.inf)
        index = torch.full((n, self.inner), -1, dtype=torch.int64, device=queries.device)
        present = torch.unique(classes)
        for c, start, stop in zip(
            present, *(side.tolist() for side in self.gallery.span(present)), strict=True
        ):
            if start == stop:
                continue
            rows = (classes == c).nonzero().flatten()
            hidden = None if exclude is None else (exclude[rows] - start).clamp(min=-1)
            block = _Search(self.gallery.only(start, stop), self.inner, 0, self.budget_bytes, self.backend)
            near = block.all_at_once(queries[rows], classes[rows], hidden)
            distance[rows] = near.inner
            index[rows] = torch.where(near.inner_index >= 0, near.inner_index + start, -1)
        return Neighbors(distance, index, distance[:, :0], index[:, :0])

    def all_at_once(self, queries: Tensor, classes: Tensor, exclude: Tensor | None) -> Neighbors:
        """Tile after tile of queries, each with the scratch memory that the budget allows."""
        columns = -(-max(1, len(self.gallery)) // GROUP) * GROUP
        rows = max(_LEAST_ROWS, self.budget_bytes // (4 * columns))
        rows = min(_MOST_ROWS, rows, max(1, len(queries)))
        columns = min(columns, max(GROUP, self.budget_bytes // (4 * rows) // GROUP * GROUP))
        buffer = queries.new_empty((rows, columns))
        if self.backend == "faiss":
            rows = _FLAT_ROWS  # faiss has its own tiles, and an index is worth many queries
        parts = [
            self._tile(queries[tile], classes[tile], None if exclude is None else exclude[tile], buffer)
            for tile in row_tiles(len(queries), rows)
        ]
        if not parts:
            value, index = queries.new_empty((0, 1)), classes.new_empty((0, 1))
            shapes = (self.inner, self.outer)
            return Neighbors(*(part.expand(0, size) for size in shapes for part in (value, index)))
        return Neighbors(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _tile(
        self, queries: Tensor, classes: Tensor, exclude: Tensor | None, buffer: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        tile = Tile(queries, classes, self.gallery, exclude, buffer)
        if self.backend == "faiss":
            inside, outside = flat_candidates(queries, classes, self.gallery, exclude, self.inner, self.outer)
        else:
            inside, outside = tile.candidates(self.inner, self.outer)
        return (
            *_nearest(tile, inside, self.inner, same=True),
            *_nearest(tile, outside, self.outer, same=False),
        )


def _nearest(tile: Tile, found: Candidates, need: int, *, same: bool) -> tuple[Tensor, Tensor]:
    """The `need` nearest points of one side, measured and proved."""
    queries, points = tile.queries, tile.gallery.points
    if need == 0:
        return queries.new_empty((len(queries), 0)), found.index[:, :0]
    rows = torch.arange(len(queries), device=queries.device).repeat_interleave(found.index.shape[1])
    squared = _squared(queries, points, rows, found.index.flatten().clamp(min=0)).view(found.index.shape)
    squared, index = _order(squared.masked_fill_(found.index < 0, torch.inf), found.index, need)

    # No other point's squared distance is below its value, less the rounding of that value, plus |q|^2.
    length = queries.double().square().sum(dim=1)
    error = _rounding(length, tile.gallery.longest, queries)
    furthest = squared[:, -1].double() * (1 + 4 * queries.shape[1] * _UNIT)
    # Nothing is nearer than a distance of zero, and points equal to the query are equal to each other.
    doubtful = (
        (furthest >= found.floor.double() + length - error) & torch.isfinite(found.floor) & (furthest > 0)
    )
    doubtful = doubtful.nonzero().flatten()
    for part in row_tiles(len(doubtful), max(1, len(tile.buffer))):
        again = doubtful[part]
        limit = (furthest - length + error)[again]
        row, column = tile.below(again, limit, same=same)
        values = _squared(queries, points, again[row], column)
        squared[again], index[again] = _first(row, column, values, len(again), need)
    return squared.sqrt(), index


def _rounding(length: Tensor, longest: float, queries: Tensor) -> Tensor:
    """How far a value of the product can be from the truth, for any order of summation (Higham, sec. 3.1)."""
    tensor_cores = queries.is_cuda and torch.backends.cuda.matmul.allow_tf32
    inputs = _TF32_UNIT if tensor_cores else 0.0
    cross = 2 * length.sqrt() * longest
    # The last term is faiss's: it adds |q|^2 before it rounds.
    return (queries.shape[1] + 8) * _UNIT * (cross + longest**2) + 2 * inputs * cross + 4 * _UNIT * length


def _squared(queries: Tensor, points: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Squared norm of each pair's difference, one row a pair, so that no sum ever sees its company."""
    parts, size = [], _PAIRS.get(queries.device.type, 4096)
    for part in row_tiles(len(rows), size):
        row, column = rows[part], columns[part]
        missing = size - len(row) if queries.is_cuda else 0
        if missing:  # a CUDA reduction is planned by shape: one shape, one order of summation
            row, column = (torch.nn.functional.pad(index, (0, missing)) for index in (row, column))
        parts.append(points[column].sub_(queries[row]).square_().sum(dim=1)[: size - missing])
    return torch.cat(parts) if parts else queries.new_empty(0)


def _order(squared: Tensor, index: Tensor, need: int) -> tuple[Tensor, Tensor]:
    """The `need` smallest, ties to the lower position; padded with infinity and -1."""
    by_index = index.argsort(dim=1, stable=True)
    squared, index = squared.gather(1, by_index), index.gather(1, by_index)
    squared, by_value = squared.sort(dim=1, stable=True)
    index = index.gather(1, by_value)
    missing = max(0, need - squared.shape[1])
    squared = torch.nn.functional.pad(squared, (0, missing), value=torch.inf)
    index = torch.nn.functional.pad(index, (0, missing), value=-1)
    return squared[:, :need], index[:, :need]


def _first(row: Tensor, column: Tensor, squared: Tensor, rows: int, need: int) -> tuple[Tensor, Tensor]:
    """From pairs in any order to the `need` smallest of each row, ties to the lower position."""
    order = column.argsort(stable=True)  # stable sorts, the most significant key last
    order = order[squared[order].argsort(stable=True)]
    order = order[row[order].argsort(stable=True)]
    row, column, squared = row[order], column[order], squared[order]
    place = torch.arange(len(row), device=row.device) - torch.searchsorted(row, row)
    keep = place < need
    values = squared.new_full((rows, need), torch.inf)
    index = torch.full((rows, need), -1, dtype=torch.int64, device=row.device)
    values[row[keep], place[keep]] = squared[keep]
    index[row[keep], place[keep]] = column[keep]
    return values, index
