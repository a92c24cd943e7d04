"""Ratios of inner to outer distance (section 6), defined in every case."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sisom.bank.spec import BankSpec, Outer
from sisom.errors import TooFewLabels
from sisom.nearest.distances import BUDGET_BYTES, neighbors
from sisom.nearest.points import SortedPoints
from sisom.nearest.queries import Queries

__all__ = [
    "CEILING",
    "Anchors",
    "BankPoints",
    "Ratios",
    "anchor_table",
    "average_and_deviation",
    "divide",
    "leave_one_out",
    "ratios",
]

# Stands for infinity in scores, which must be finite: a query whose class has no bank point, and an exact
# collision with a point of another class, are as strange as anything can be. A constant, so that it cannot
# depend on the batch.
CEILING = 1e6


@dataclass(frozen=True, eq=False)
class Anchors:
    """Two nearest points of other classes for each bank point (`outer="anchor"`).

    Args:
        distances: to the two, near to far.
        sources: `source` of the nearest, -1 for none.
    """

    distances: Float[Tensor, "m 2"]
    sources: Int[Tensor, " m"]


@dataclass(frozen=True, eq=False)
class BankPoints:
    """Points of a bank as ratios see them.

    Args:
        searched: the points, sorted by class.
        source: the fitted row that each point is.
        anchors: where outer distances start at the inner neighbor.
    """

    searched: SortedPoints
    source: Int[Tensor, " m"]
    anchors: Anchors | None = None

    @classmethod
    def of(cls, searched: SortedPoints, source: Int[Tensor, " m"], outer: Outer) -> BankPoints:
        """Prepare points for ratios; raises `TooFewLabels` where all are of one class."""
        if int(searched.labels[0]) == int(searched.labels[-1]):
            raise TooFewLabels("a bank needs points of two classes: with one there is no outer distance")
        return cls(searched, source, anchor_table(searched, source) if outer == "anchor" else None)


@dataclass(frozen=True, eq=False)
class Ratios:
    """Distances and ratios of n queries.

    `valid` is false where no inner point exists or where the query equals a point of another class only.
    """

    inner: Float[Tensor, " n"]
    outer: Float[Tensor, " n"]
    ratio: Float[Tensor, " n"]
    valid: Bool[Tensor, " n"]


def ratios(
    queries: Float[Tensor, "n d"],
    classes: Int[Tensor, " n"],
    points: BankPoints,
    *,
    spec: BankSpec,
    exclude: Int[Tensor, " n"] | None = None,
    budget_bytes: int = BUDGET_BYTES,
) -> Ratios:
    """Measure each query's ratio: mean inner distance over mean outer distance.

    Args:
        queries: enhanced features.
        classes: of each query; its inner distances are to points of that class.
        points: what distances are measured to, with anchors where `spec.outer` is "anchor".
        spec: both means are of `neighbors` distances; the inner ones start at the `rank`-th. With `outer="sample"` the
            outer ones are measured from the query, with `outer="anchor"` from its inner neighbors.
        exclude: the `source` that each query may not see, -1 for none.
        budget_bytes: about how much scratch memory is used.
    """
    anchors, outer, rank = points.anchors, spec.outer, spec.rank
    hidden = None if exclude is None else _positions(exclude, points.source)
    near = neighbors(
        Queries(queries, classes, hidden),
        points.searched,
        inner=rank + spec.neighbors - 1,
        outer=spec.neighbors if outer == "sample" else 0,
        budget_bytes=budget_bytes,
    )
    # A class with fewer than `rank` points answers with the farthest that it has.
    inside = near.inner_index >= 0
    first = (inside.sum(dim=1, keepdim=True).clamp(min=1) - 1).clamp(max=rank - 1)
    place = torch.arange(near.inner.shape[1], device=queries.device)
    used = inside & (place >= first)
    if outer == "sample":
        outside, outer_distance = near.outer_index >= 0, near.outer
    else:
        assert anchors is not None
        index = near.inner_index.clamp(min=0)
        outer_distance = anchors.distances[index, 0]
        if exclude is not None:  # the nearest other-class point of an anchor may be the query itself
            hidden = (anchors.sources[index] == exclude[:, None]) & (exclude[:, None] >= 0)
            outer_distance = torch.where(hidden, anchors.distances[index, 1], outer_distance)
        outside = used & torch.isfinite(outer_distance)
    d_in, d_out = _mean(near.inner, used), _mean(outer_distance, outside)
    return divide(d_in, d_out, used.any(dim=1))


def leave_one_out(points: BankPoints, spec: BankSpec) -> Ratios:
    """Measure the ratios of a bank's own points, each hidden from itself."""
    own = points.searched
    return ratios(own.points, own.labels, points, spec=spec, exclude=points.source)


def anchor_table(points: SortedPoints, source: Int[Tensor, " m"]) -> Anchors:
    """Find each point's two nearest points of other classes.

    The second serves when the nearest is left out.
    """
    near = neighbors(Queries(points.points, points.labels), points, inner=0, outer=2)
    nearest = near.outer_index[:, 0]
    return Anchors(near.outer, torch.where(nearest >= 0, source[nearest.clamp(min=0)], -1))


def average_and_deviation(values: Float[Tensor, " n"]) -> tuple[float, float]:
    """Compute mean and unbiased standard deviation in float64.

    A deviation that is zero or undefined becomes one.
    """
    values = values.double()
    deviation = float(values.std()) if len(values) > 1 else 0.0
    return float(values.mean()), deviation if deviation > 0 else 1.0


def divide(d_in: Tensor, d_out: Tensor, exists: Tensor) -> Ratios:
    """Divide distances, with section 6.2's answers for what division cannot answer.

    Equal to a point of another class: as strange as can be, or 1 when equal to one of its own class too.
    No point of its class (`exists` false): as strange as can be. No point of another class: ratio 0.
    """
    collision = (d_out == 0) & (d_in > 0)
    valid = exists & ~collision & torch.isfinite(d_out)
    ratio = (d_in.double() / d_out.double()).float()
    ratio = torch.where((d_in == 0) & (d_out == 0), 1.0, ratio)
    ratio = torch.where(
        torch.isfinite(d_out), ratio, 0.0
    )  # nothing outside: as far from other classes as can be
    ratio = torch.where(collision | ~exists, CEILING, ratio).clamp(max=CEILING)
    return Ratios(torch.where(exists, d_in, CEILING), d_out.clamp(max=CEILING), ratio, valid)


def _mean(distance: Tensor, used: Tensor) -> Tensor:
    """Average each row over its used places; infinity for none.

    In float64, so that the order of summation cannot be seen.
    """
    total = torch.where(used, distance, 0.0).double().sum(dim=1)
    return torch.where(used.any(dim=1), total / used.sum(dim=1).clamp(min=1), torch.inf).float()


def _positions(exclude: Tensor, source: Tensor) -> Tensor:
    """Find the bank positions of fitted rows, -1 for a missing row."""
    order = source.argsort()
    ranked = source[order]
    place = torch.searchsorted(ranked, exclude.contiguous()).clamp(max=len(source) - 1)
    return torch.where(ranked[place] == exclude, order[place], -1)
