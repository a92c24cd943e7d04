"""A representative part of the labeled set for the bank (section 9). Every class keeps at least one point."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.errors import InputError, UnknownName, nearest_name

__all__ = ["SUBSETS", "SubsetMethod", "quotas", "subset"]

SubsetMethod = Literal["random"]


def quotas(labels: Int[Tensor, " n"], size: float | int) -> dict[int, int]:
    """How many points each present class keeps.

    A float is a share in (0, 1]: `ceil(share * n / classes)`, as the authors count. An int is a total, spread
    evenly. No class keeps more than it has or fewer than one.
    """
    present, counts = torch.unique(labels, return_counts=True)
    if isinstance(size, bool) or not (0 < size <= 1 if isinstance(size, float) else size >= 1):
        raise InputError(f"subset must be a share in (0, 1] or a count of at least 1, got {size!r}")
    total = size * len(labels) if isinstance(size, float) else size
    each = math.ceil(total / len(present))
    return {int(c): min(int(n), max(1, each)) for c, n in zip(present, counts, strict=True)}


def subset(
    penultimate: Float[Tensor, "n p"],
    labels: Int[Tensor, " n"],
    *,
    size: float | int,
    method: str = "random",
    seed: int = 0,
) -> Int[Tensor, " m"]:
    """Rows to keep, ascending. `size=1.0` keeps all of them, whatever the method."""
    if method not in SUBSETS:
        near = nearest_name(method, list(SUBSETS))
        raise UnknownName(f"unknown subset method {method!r}; the nearest is {near!r}", method, near)
    kept = quotas(labels, size)
    if isinstance(size, float) and size == 1.0:
        return torch.arange(len(labels))
    generator = torch.Generator().manual_seed(seed)
    picks = [
        rows[SUBSETS[method](penultimate[rows], quota, generator)]
        for c, quota in kept.items()
        for rows in [(labels == c).nonzero().flatten()]
    ]
    return torch.cat(picks).sort().values


def _random(points: Float[Tensor, "n p"], quota: int, generator: torch.Generator) -> Int[Tensor, " q"]:
    return torch.randperm(len(points), generator=generator)[:quota]


SUBSETS: dict[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {"random": _random}
