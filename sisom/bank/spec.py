"""A value that says how a bank is built.

Rounds, studies, detectors and the library all take it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypedDict

from sisom.bank.subset import check_subset
from sisom.errors import InputError

__all__ = ["ROUNDS", "STUDIES", "BankSpec", "Fusion", "Outer", "SpecChanges"]

Outer = Literal["sample", "anchor"]
Fusion = Literal["zscore", "raw"]


@dataclass(frozen=True)
class BankSpec:
    """Choices that make a bank; the defaults are the paper's.

    Args:
        subset: a share in (0, 1] or a count of the labeled rows that become bank points.
        subset_method: "random", "radius" or "kcenter"; see `sisom.bank.subset`.
        radius: of the method "radius", in penultimate features; derived from the rows where None.
        seed: of the subset.
        outer: where outer distances start: "sample" at the query, as the paper writes it; "anchor" at the query's
            inner neighbor, as its authors' code does.
        fusion: what SISOMe adds up: "zscore" standardised values, as the authors' code does; "raw" values, as the
            paper writes it.
        rank: the first inner neighbor that counts: 1 the nearest, 2 the second nearest.
        neighbors: how many neighbors the distances average, inside and outside; 1 in the paper.
        r_avg: a fixed value instead of the leave-one-out mean.
        prune: leave out layers with a share of the squared distance below 1e-12.

    Raises:
        InputError: for a value that does not exist or is out of range.
        UnknownName: for a subset method that does not exist.
    """

    subset: float | int = 1.0
    subset_method: str = "random"
    radius: float | None = None
    seed: int = 0
    outer: Outer = "sample"
    fusion: Fusion = "zscore"
    rank: int = 1
    neighbors: int = 1
    r_avg: float | None = None
    prune: bool = True

    def __post_init__(self) -> None:
        check_subset(self.subset, self.subset_method, self.radius)
        if self.outer not in ("sample", "anchor"):
            raise InputError(f'outer must be "sample" or "anchor", got {self.outer!r}')
        if self.fusion not in ("zscore", "raw"):
            raise InputError(f'fusion must be "zscore" or "raw", got {self.fusion!r}')
        if self.rank < 1 or self.neighbors < 1:
            raise InputError(f"rank and neighbors start at 1, got {self.rank} and {self.neighbors}")
        if self.r_avg is not None and (not math.isfinite(self.r_avg) or self.r_avg < 0):
            raise InputError(f"r_avg must be finite and not negative, got {self.r_avg}")


class SpecChanges(TypedDict, total=False):
    """Fields of a `BankSpec` as keyword arguments."""

    subset: float | int
    subset_method: str
    radius: float | None
    seed: int
    outer: Outer
    fusion: Fusion
    rank: int
    neighbors: int
    r_avg: float | None
    prune: bool


STUDIES = BankSpec()  # every labeled row is a point, so that studies compare methods and not subsets
ROUNDS = BankSpec(subset=0.05)  # the paper's share: a pool is scored once against every point
