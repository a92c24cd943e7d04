"""Distance to the k-th nearest point, exact, with few pairs measured.

A matrix product, or faiss where that is faster, ranks the points but for its rounding. Only points whose rank rounding
may have exchanged with the k-th are measured pair by pair: mostly a handful of the k.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sisom.nearest.exact import UNIT, measured, rounding, squared_distances
from sisom.nearest.flat import flat_is_faster, flat_shortlist
from sisom.nearest.points import SortedPoints
from sisom.nearest.queries import Queries
from sisom.nearest.tiles import BUDGET_BYTES, Shortlist, Tile, tiles

__all__ = ["kth_distance"]

# Points beyond the k-th, so that the proof of exactness rarely fails: as the bound does, they grow with the columns.
_MORE = 4
_COLUMNS = 64


def kth_distance(queries: Queries, points: SortedPoints, k: int) -> Float[Tensor, " n"]:
    """Measure the distance to the k-th nearest point of each query's class.

    Equal to the last column of `neighbors(queries, points, inner=k, outer=0).inner`, to the bit; infinity where a
    query sees fewer than k points.
    """
    parts = [_kth(tile, k) for tile in tiles(queries, points, BUDGET_BYTES)]
    return torch.cat(parts) if parts else queries.points.new_empty(0)


def _kth(tile: Tile, k: int) -> Tensor:
    queries = tile.queries.points
    need = k + _MORE + queries.shape[1] // _COLUMNS
    if flat_is_faster(tile.queries, tile.points):
        near = flat_shortlist(tile.queries, tile.points, need)
    else:
        near, _ = tile.shortlists(need, 0)
    distance = queries.new_full((len(queries),), torch.inf)
    if near.values.shape[1] < k:
        return distance
    # With |q|^2 a value is a squared distance within `error`; a measured one is within it of the truth as well.
    length = queries.double().square().sum(dim=1)
    squared = near.values.double() + length[:, None]
    middle = squared[:, k - 1]
    error = rounding(length, tile.points.longest, queries) + near.extra
    error = error + 4 * queries.shape[1] * UNIT * (middle.abs() + error)
    # The k-th smallest measured one lies within `error` of `middle`. What lies farther from `middle` than twice that,
    # and a bit for the error's own growth, is certainly on its side.
    low, high = middle - 2.5 * error, middle + 2.5 * error
    exists = torch.isfinite(middle)
    proved = exists & (near.floor.double() + length > high)
    row, place = ((squared >= low[:, None]) & (squared <= high[:, None]) & proved[:, None]).nonzero(
        as_tuple=True
    )
    exact = queries.new_full(near.values.shape, torch.inf)
    exact[row, place] = squared_distances(
        queries, tile.points.points, rows=row, columns=near.index[row, place]
    )
    before = (squared < low[:, None]).sum(dim=1)
    kth = exact.sort(dim=1).values.gather(1, (k - 1 - before).clamp(min=0)[:, None])[:, 0]
    distance = torch.where(proved, kth.sqrt(), distance)
    rest = (exists & ~proved).nonzero().flatten()
    if len(rest):
        listed = Shortlist(near.values[rest], near.index[rest], near.floor[rest])
        distance[rest] = measured(tile, listed, k, same=True, rows=rest)[0][:, -1]
    return distance
