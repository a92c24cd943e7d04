"""Representative subsets of the labeled set (section 9).

Every class keeps at least one point.

    random    a uniform sample of each class
    radius    greedy maximum coverage: each pick covers the points of its class nearer than the radius
    kcenter   farthest first: each pick is the point of its class farthest from all earlier picks

`radius` and `kcenter` look at penultimate features, as the authors do, not at enhanced ones.
"""

import math
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.errors import InputError, NonFinite, UnknownName, nearest_name

__all__ = ["SUBSETS", "check_subset", "choose_rows", "derived_radius", "quotas"]

_TILE = 1024
_SAMPLE = 2000  # rows of a class that the derived radius looks from


def check_subset(size: float | int, method: str, radius: float | None) -> None:
    """Refuse a subset that cannot be chosen.

    Raises:
        InputError: for a size that is neither a share in (0, 1] nor a count of at least 1, or a radius that is not
            positive.
        UnknownName: for a method that does not exist.
    """
    whole = isinstance(size, int) and not isinstance(size, bool)
    if not (size >= 1 if whole else isinstance(size, float) and 0 < size <= 1):
        raise InputError(f"subset must be a share in (0, 1] or a count of at least 1, got {size!r}")
    if method not in SUBSETS:
        near = nearest_name(method, list(SUBSETS))
        raise UnknownName(f"unknown subset method {method!r}; the nearest is {near!r}", method, near)
    if radius is not None and not radius > 0:
        raise InputError(f"the radius must be positive, got {radius}")


def quotas(labels: Int[Tensor, " n"], size: float | int) -> dict[int, int]:
    """Count the points that each present class keeps.

    A float is a share in (0, 1], spread evenly over the classes: `ceil(share * n / classes)`, as the authors
    count. An int is a total, spread in the same way. No class keeps more than it has or fewer than one.
    """
    present, counts = torch.unique(labels, return_counts=True)
    total = size * len(labels) if isinstance(size, float) else size
    each = max(1, math.ceil(round(total / len(present), 9)))
    return {int(c): min(int(n), each) for c, n in zip(present, counts, strict=True)}


def choose_rows(
    penultimate: Float[Tensor, "n p"],
    labels: Int[Tensor, " n"],
    *,
    size: float | int,
    method: str = "random",
    seed: int = 0,
    radius: float | None = None,
) -> tuple[Int[Tensor, " m"], float | None]:
    """Choose the rows to keep, ascending and each once.

    Returns the rows, and the radius that was used, if one was.

    `size=1.0` keeps all rows, whatever the method. Equal seeds give equal rows. Raises `UnknownName` and
    `InputError`.
    """
    check_subset(size, method, radius)
    kept = quotas(labels, size)
    home = labels.device
    if isinstance(size, float) and size == 1.0:
        return torch.arange(len(labels), device=home), None
    if not bool(torch.isfinite(penultimate).all()):
        raise NonFinite("penultimate features must be finite")
    generator = torch.Generator().manual_seed(seed)
    members = {c: (labels == c).nonzero().flatten() for c in kept}
    if method == "radius" and radius is None:
        radius = derived_radius({c: penultimate[rows] for c, rows in members.items()}, kept)
    picks = [
        rows[SUBSETS[method](penultimate[rows], kept[c], generator=generator, radius=radius or 0.0).to(home)]
        for c, rows in members.items()
    ]
    return torch.cat(picks).sort().values, radius if method == "radius" else None


def derived_radius(points: dict[int, Tensor], kept: dict[int, int]) -> float:
    """Derive the radius from the rows that each pick must stand for.

    A ball of it around the median point holds that many points.

    For every class that is asked to keep q of n points: the distance from each point to its ceil(n / q)-th
    nearest of the class, itself counted; over all classes, the median.
    """
    reaches = []
    for c, rows in points.items():
        stands_for = math.ceil(len(rows) / kept[c])
        if stands_for > 1:
            step = max(1, len(rows) // _SAMPLE)
            squared = _squared(rows[::step], rows)
            reaches.append(squared.kthvalue(stands_for, dim=1).values)
    if not reaches:
        return 1.0  # every class keeps all of its points: any radius picks the same
    # Strictly within the radius counts, so the reached point itself must lie a hair inside.
    return float(torch.cat(reaches).median().sqrt()) * (1 + 1e-6) + 1e-12


def _squared(rows: Tensor, points: Tensor) -> Tensor:
    """Compute squared distances in float64.

    There the cancellation of the product form does not matter.
    """
    center = points.double().mean(dim=0)
    a, b = rows.double() - center, points.double() - center
    squared = a.square().sum(dim=1, keepdim=True) + b.square().sum(dim=1) - 2 * a @ b.T
    return squared.clamp_(min=0)


def _random(points: Tensor, quota: int, *, generator: torch.Generator, radius: float) -> Tensor:  # noqa: ARG001
    return torch.randperm(len(points), generator=generator)[:quota]


def _radius(points: Tensor, quota: int, *, generator: torch.Generator, radius: float) -> Tensor:
    """Pick greedily by coverage.

    Gains are kept exact by subtracting what each pick newly covers: every column once.
    """
    n = len(points)
    near = torch.cat([_squared(part, points) < radius**2 for part in torch.split(points, _TILE)])
    near.fill_diagonal_(True)
    gain = near.sum(dim=1, dtype=torch.int32)
    covered = torch.zeros(n, dtype=torch.bool, device=points.device)
    picked: list[int] = []
    while len(picked) < quota:
        best = int(gain.argmax())  # ties to the lower row
        if int(gain[best]) == 0:
            break
        picked.append(best)
        fresh = (near[best] & ~covered).nonzero().flatten()
        covered[fresh] = True
        gain -= near[:, fresh].sum(dim=1, dtype=torch.int32)
    taken = set(picked)
    for row in torch.randperm(
        n, generator=generator
    ).tolist():  # all covered: the rest of the quota is random
        if len(picked) == quota:
            break
        if row not in taken:
            picked.append(row)
    return torch.tensor(picked, dtype=torch.int64)


def _kcenter(points: Tensor, quota: int, *, generator: torch.Generator, radius: float) -> Tensor:  # noqa: ARG001
    """Pick farthest first, from the point nearest to the class mean.

    Copies of a pick are taken last.
    """
    best = int((points - points.mean(dim=0)).square().sum(dim=1).argmin())
    reach = torch.full((len(points),), torch.inf, device=points.device)
    picked: list[int] = []
    while True:
        picked.append(best)
        if len(picked) == quota:
            return torch.tensor(picked, dtype=torch.int64)
        reach = torch.minimum(reach, (points - points[best]).square().sum(dim=1))
        reach[best] = -1.0  # never again, not even when all others are copies
        best = int(reach.argmax())


class _Method(Protocol):
    def __call__(
        self, points: Tensor, quota: int, *, generator: torch.Generator, radius: float
    ) -> Tensor: ...


SUBSETS: dict[str, _Method] = {
    "random": _random,
    "radius": _radius,
    "kcenter": _kcenter,
}
