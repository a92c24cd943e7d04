"""Inner and outer distances (section 6.1): the nearest bank points of the query's class and of all other
classes.

Every distance is the Euclidean norm of a float32 difference, computed pair by pair. The value for a pair
therefore depends on the pair alone, and results are bit-equal however the queries are cut into batches.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Neighbors", "neighbors"]


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The nearest points of n queries, near to far; a place without a point has distance infinity and index
    -1.
    """

    inner: Float[Tensor, "n i"]
    inner_index: Int[Tensor, "n i"]
    outer: Float[Tensor, "n o"]
    outer_index: Int[Tensor, "n o"]


def neighbors(
    queries: Float[Tensor, "n d"],
    classes: Int[Tensor, " n"],
    points: Float[Tensor, "m d"],
    labels: Int[Tensor, " m"],
    *,
    inner: int,
    outer: int,
    exclude: Int[Tensor, " n"] | None = None,
    budget_bytes: int = 64 << 20,
) -> Neighbors:
    """The `inner` nearest points of each query's class and the `outer` nearest of other classes.

    points    class-sorted bank points; `labels` are their classes, ascending
    exclude   the position of the bank point that each query may not see, -1 for none
    """
    m = len(points)
    rows = max(1, budget_bytes // (4 * max(1, m) * 4))
    parts = []
    for start in range(0, len(queries), rows):
        stop = min(start + rows, len(queries))
        distance = torch.cdist(queries[start:stop], points, compute_mode="donot_use_mm_for_euclid_dist")
        if exclude is not None:
            mask = torch.arange(m, device=points.device) == exclude[start:stop, None]
            distance = distance.masked_fill(mask, torch.inf)
        same = labels == classes[start:stop, None]
        parts.append(
            (
                *_smallest(distance.masked_fill(~same, torch.inf), inner),
                *_smallest(distance.masked_fill(same, torch.inf), outer),
            )
        )
    if not parts:
        value, index = queries.new_empty(0), torch.empty(0, dtype=torch.int64, device=queries.device)
        return Neighbors(
            value.view(0, 1).expand(0, inner),
            index.view(0, 1).expand(0, inner),
            value.view(0, 1).expand(0, outer),
            index.view(0, 1).expand(0, outer),
        )
    return Neighbors(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _smallest(distance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` smallest of each row, ties to the lower index, padded with infinity and -1."""
    values, order = distance.sort(dim=1, stable=True)
    values, order = values[:, :count], order[:, :count]
    if values.shape[1] < count:
        pad = count - values.shape[1]
        values = torch.nn.functional.pad(values, (0, pad), value=torch.inf)
        order = torch.nn.functional.pad(order, (0, pad), value=-1)
    return values, order.masked_fill(torch.isinf(values), -1)
