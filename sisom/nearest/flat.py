"""Shortlists from faiss's flat search, where that is faster than ours.

Where only one side is asked for, faiss needs 62 to 93 % of our time on processors with AVX2 and rows of 512 columns or
more; with fewer columns it needs 1.5 to 6 times as long, with AVX-512 2.7 times, and for the inner and the outer side
of a bank, which one product of ours serves at once, 2 to 7 times (docs/results.md). What it lists is measured and
proved as ours is, so that no result tells which search was taken.
"""

import torch

from sisom.nearest.points import SortedPoints
from sisom.nearest.queries import Queries
from sisom.nearest.tiles import Shortlist

__all__ = ["flat_is_faster", "flat_shortlist"]

_LEAST_COLUMNS = 512
_LEAST_PRODUCTS = 100_000_000  # of floats; fewer do not repay the import of faiss, 0.1 s and 16 MB
_UNIT = 2.0**-24  # rounding unit of float32


def flat_is_faster(queries: Queries, points: SortedPoints) -> bool:
    """Decide by processor and size whether faiss is to search.

    Never by a clock. True on a CPU with AVX2 and no wider instructions, for points and queries of one class, at least
    512 columns, and at least 100 million products of floats.
    """
    rows = queries.points
    if rows.device.type != "cpu" or torch.backends.cpu.get_cpu_capability() != "AVX2":
        return False
    if rows.shape[1] < _LEAST_COLUMNS or rows.numel() * len(points) < _LEAST_PRODUCTS:
        return False
    one = points.labels[0]
    return bool(points.labels[-1] == one) and bool((queries.classes == one).all())


def flat_shortlist(queries: Queries, points: SortedPoints, need: int) -> Shortlist:
    """List the `need` nearest points; all are of the queries' class."""
    import faiss  # on use: most runs never need it

    faiss.omp_set_num_threads(torch.get_num_threads())
    rows, hidden = queries.points.contiguous(), queries.hidden
    take = min(len(points), need + 1 + (hidden is not None))
    found, place = faiss.knn(rows.numpy(), points.points.contiguous().numpy(), take)
    length = rows.double().square().sum(dim=1)
    extra = (rows.shape[1] + 8) * _UNIT * length  # faiss has rounded the length of the query, too
    index = torch.from_numpy(place)
    values = torch.from_numpy(found) - length[:, None]
    if hidden is not None:
        values, order = values.masked_fill(index == hidden[:, None], torch.inf).sort(dim=1)
        index = index.gather(1, order)
    last = values.masked_fill(torch.isinf(values), -torch.inf).amax(dim=1)  # the farthest that faiss has seen
    floor = values[:, need] if take > need else torch.full_like(length, torch.inf)
    floor = torch.minimum(floor, last) if take < len(points) else floor
    listed = values[:, :need]
    return Shortlist(listed, torch.where(torch.isfinite(listed), index[:, :need], -1), floor - extra, extra)
