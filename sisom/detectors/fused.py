"""SISOMe with a second partner: energy and distance to a neighbor.

Nearest neighbors catch far images that SISOM misses; the energy catches near ones. docs/results.md has the ablation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.bank.bank import FeatureBank
from sisom.bank.enhance import Slopes
from sisom.bank.fit import fit_bank
from sisom.bank.spec import BankSpec, Outer
from sisom.detectors.base import strangeness
from sisom.detectors.neighbors import KnnDetector
from sisom.errors import InputError
from sisom.nearest.kth import kth_distance
from sisom.nearest.points import SortedPoints
from sisom.nearest.queries import Queries
from sisom.rowwise import rowwise, unit
from sisom.scoring import score
from sisom.types import Features, Scores

__all__ = ["FarNeighbor", "FusedState", "SisomFusedDetector", "energy_zscore", "fuse"]


@dataclass(frozen=True, eq=False)
class FarNeighbor:
    """Distance to the k-th nearest row of a bank, standardised.

    Mean and deviation are those of labeled rows, each without itself.
    """

    points: SortedPoints
    k: int
    mean: float
    std: float

    @classmethod
    def of(
        cls, features: Features, labels: Int[Tensor, " n"], *, source: Int[Tensor, " m"], k: int
    ) -> FarNeighbor:
        """Fit to labeled rows, of which those at `source` make the bank."""
        points = KnnDetector(k).fit(features.select(source), labels[source])
        place = torch.full((len(features),), -1, dtype=torch.int64, device=source.device)
        place[source] = torch.arange(len(source), device=source.device)
        queries = rowwise(unit, features.penultimate).float()
        hidden = Queries.of_one_class(queries, place.to(queries.device))
        distance = kth_distance(hidden, points, min(k, max(1, len(points) - 1))).double()
        distance = distance[torch.isfinite(distance)]  # a bank of one row has no other
        if len(distance) < 2:
            return cls(points, k, 0.0, 1.0)
        return cls(points, k, float(distance.mean()), float(distance.std()) or 1.0)

    def zscore(self, features: Features) -> Float[Tensor, " n"]:
        """Measure the distance in standard deviations from the mean; float64."""
        return (KnnDetector(self.k).score(self.points, features).double() - self.mean) / self.std


def fuse(bank: FeatureBank, scores: Scores, partner: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Fuse the ratio with any partner that is given in standard deviations.

    That is `min(r_avg, 1) * partner + max(1 - r_avg, 0) * z(ratio)`, as in SISOMe.
    """
    ratio = (scores.ratio.double() - bank.r_avg) / bank.r_std
    return strangeness(min(bank.r_avg, 1.0) * partner + max(1.0 - bank.r_avg, 0.0) * ratio)


def energy_zscore(bank: FeatureBank, scores: Scores) -> Float[Tensor, " n"]:
    """Standardise the energy by that of the labeled rows; float64."""
    return (scores.energy.double() - bank.energy_mean) / bank.energy_std


@dataclass(frozen=True, eq=False)
class FusedState:
    """Bank and second partner."""

    bank: FeatureBank
    near: FarNeighbor


@dataclass(frozen=True)
class SisomFusedDetector(BankSpec):
    """SISOM's ratio, fused with the mean of energy and neighbor distance.

    Distances to other classes start at the nearest point of the predicted class (`outer="anchor"`): a fourth of the
    work, and no worse. The other options are those of `BankSpec`, but that fusion is always by z-scores.
    """

    outer: Outer = "anchor"
    slopes: Slopes = 1.0
    k: int = 50

    needs = frozenset[str]()

    def __post_init__(self) -> None:
        super().__post_init__()
        KnnDetector(self.k)  # refuses a k below one
        if self.fusion != "zscore":
            raise InputError('sisom-fused adds up standardised values: fusion must be "zscore"')

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> FusedState:
        """Fit the bank and the neighbor; see `Detector`."""
        bank = fit_bank(features, labels, slopes=self.slopes, spec=self)
        return FusedState(bank, FarNeighbor.of(features, labels, source=bank.source, k=self.k))

    def score(self, state: FusedState, features: Features) -> Float[Tensor, " n"]:
        """Score each row; see `Detector`."""
        scores = score(state.bank, features)
        partner = (state.near.zscore(features) + energy_zscore(state.bank, scores)) / 2
        return fuse(state.bank, scores, partner)
