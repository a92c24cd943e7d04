"""Exact distances of a shortlist, with proof that no other is nearer.

A matrix product finds a shortlist quickly but not exactly. Each distance is then the norm of the float32 difference,
computed pair by pair, and a bound on the product's rounding proves that no other point can be nearer; where the proof
fails, every point that could be is measured.
"""

import torch
from torch import Tensor

from sisom.nearest.tiles import Shortlist, Tile
from sisom.rowwise import row_tiles

__all__ = ["UNIT", "measured", "rounding", "squared_distances"]

UNIT = 2.0**-24  # rounding unit of float32
_TF32_UNIT = 2.0**-10
_PAIRS = {"cpu": 512, "cuda": 4096}  # differences at a time: on a CPU they stay in the cache


def measured(
    tile: Tile, shortlist: Shortlist, need: int, *, same: bool, rows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Measure a shortlist; return the `need` nearest points of its side, proved.

    Args:
        tile: the queries and the points.
        shortlist: of one side.
        need: the number of neighbors.
        same: whether that side is the query's class.
        rows: the queries of the tile that the shortlist is of; all when left out.

    Returns:
        Distances and positions, both (n, need).
    """
    asked = torch.arange(len(tile.queries), device=shortlist.index.device) if rows is None else rows
    queries, points = tile.queries.points[asked], tile.points.points
    if need == 0:
        return queries.new_empty((len(queries), 0)), shortlist.index[:, :0]
    row = torch.arange(len(queries), device=queries.device).repeat_interleave(shortlist.index.shape[1])
    column = shortlist.index.flatten().clamp(min=0)
    squared = squared_distances(queries, points, rows=row, columns=column).view(shortlist.index.shape)
    squared, index = _order(squared.masked_fill_(shortlist.index < 0, torch.inf), shortlist.index, need)

    # No other point's squared distance is below its value, less the rounding of that value, plus |q|^2.
    length = queries.double().square().sum(dim=1)
    error = rounding(length, tile.points.longest, queries)
    furthest = squared[:, -1].double() * (1 + 4 * queries.shape[1] * UNIT)
    floor = shortlist.floor
    # Nothing is nearer than a distance of zero, and points equal to the query are equal to each other.
    doubtful = (furthest >= floor.double() + length - error) & torch.isfinite(floor) & (furthest > 0)
    doubtful = doubtful.nonzero().flatten()
    for part in row_tiles(len(doubtful), max(1, len(tile.buffer))):
        again = doubtful[part]
        limit = (furthest - length + error)[again]
        pairs = tile.below(asked[again], limit, same=same)
        values = squared_distances(queries, points, rows=again[pairs[0]], columns=pairs[1])
        squared[again], index[again] = _first(pairs, values, rows=len(again), need=need)
    return squared.sqrt(), index


def rounding(length: Tensor, longest: float, queries: Tensor) -> Tensor:
    """Bound the rounding of the product's values.

    Holds for any order of summation (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).

    Args:
        length: squared Euclidean norms of the queries.
        longest: the largest Euclidean norm of a point.
        queries: (n, d).
    """
    tensor_cores = queries.is_cuda and torch.backends.cuda.matmul.allow_tf32
    inputs = _TF32_UNIT if tensor_cores else 0.0
    cross = 2 * length.sqrt() * longest
    return (queries.shape[1] + 8) * UNIT * (cross + longest**2) + 2 * inputs * cross


def squared_distances(queries: Tensor, points: Tensor, *, rows: Tensor, columns: Tensor) -> Tensor:
    """Compute squared distances pair by pair.

    No sum ever sees another pair.
    """
    parts, size = [], _PAIRS.get(queries.device.type, 4096)
    for part in row_tiles(len(rows), size):
        row, column = rows[part], columns[part]
        missing = size - len(row) if queries.is_cuda else 0
        if missing:  # a CUDA reduction is planned by shape: one shape, one order of summation
            row, column = (torch.nn.functional.pad(index, (0, missing)) for index in (row, column))
        parts.append(points[column].sub_(queries[row]).square_().sum(dim=1)[: size - missing])
    return torch.cat(parts) if parts else queries.new_empty(0)


def _order(squared: Tensor, index: Tensor, need: int) -> tuple[Tensor, Tensor]:
    """Sort the `need` smallest of each row, ties to the lower position.

    Pads with infinity and -1.
    """
    by_index = index.argsort(dim=1, stable=True)
    squared, index = squared.gather(1, by_index), index.gather(1, by_index)
    squared, by_value = squared.sort(dim=1, stable=True)
    index = index.gather(1, by_value)
    missing = max(0, need - squared.shape[1])
    squared = torch.nn.functional.pad(squared, (0, missing), value=torch.inf)
    index = torch.nn.functional.pad(index, (0, missing), value=-1)
    return squared[:, :need], index[:, :need]


def _first(pairs: tuple[Tensor, Tensor], squared: Tensor, *, rows: int, need: int) -> tuple[Tensor, Tensor]:
    """Sort the `need` smallest pairs of each row.

    Ties go to the lower position.

    `pairs` are (row, column) in any order, `squared` their squared distances.
    """
    row, column = pairs
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
