"""The paper's two scores as detectors; the state is a `FeatureBank`."""

from dataclasses import dataclass, field

from jaxtyping import Float, Int
from torch import Tensor

from sisom.bank.bank import FeatureBank, Fusion, Outer
from sisom.bank.enhance import Slopes
from sisom.bank.fit import fit_bank
from sisom.scoring import score
from sisom.types import Features

__all__ = ["SisomDetector", "SisomeDetector"]


@dataclass(frozen=True)
class _BankDetector:
    """Options of `fit_bank`, held until there is something to fit."""

    slopes: Slopes = 1.0
    subset: float | int = 1.0
    subset_method: str = "random"
    seed: int = 0
    outer: Outer = "sample"
    fusion: Fusion = "zscore"
    rank: int = 1
    neighbors: int = 1
    r_avg: float | None = field(default=None)

    needs = frozenset[str]()

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> FeatureBank:
        return fit_bank(
            features,
            labels,
            slopes=self.slopes,
            subset=self.subset,
            subset_method=self.subset_method,
            seed=self.seed,
            outer=self.outer,
            fusion=self.fusion,
            rank=self.rank,
            neighbors=self.neighbors,
            r_avg=self.r_avg,
        )


@dataclass(frozen=True)
class SisomDetector(_BankDetector):
    """The ratio of inner to outer distance."""

    def score(self, state: FeatureBank, features: Features) -> Float[Tensor, " n"]:
        """One score a row; see `Detector`."""
        return score(state, features).sisom


@dataclass(frozen=True)
class SisomeDetector(_BankDetector):
    """The ratio fused with the energy."""

    def score(self, state: FeatureBank, features: Features) -> Float[Tensor, " n"]:
        """One score a row; see `Detector`."""
        return score(state, features).sisome
