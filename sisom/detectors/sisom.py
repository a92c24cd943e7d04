"""The paper's two scores as detectors; the state is a `FeatureBank`."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from sisom.bank.bank import FeatureBank
from sisom.bank.enhance import Slopes
from sisom.bank.fit import fit_bank
from sisom.bank.spec import BankSpec
from sisom.scoring import score
from sisom.types import Features

__all__ = ["SisomDetector", "SisomeDetector"]


@dataclass(frozen=True)
class _BankDetector(BankSpec):
    """A spec with its slopes, held until there is something to fit."""

    slopes: Slopes = 1.0

    needs = frozenset[str]()

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> FeatureBank:
        return fit_bank(features, labels, slopes=self.slopes, spec=self)


@dataclass(frozen=True)
class SisomDetector(_BankDetector):
    """SISOM: the ratio of inner to outer distance."""

    def score(self, state: FeatureBank, features: Features) -> Float[Tensor, " n"]:
        """Score each row; see `Detector`."""
        return score(state, features).sisom


@dataclass(frozen=True)
class SisomeDetector(_BankDetector):
    """SISOMe: the ratio fused with the energy."""

    def score(self, state: FeatureBank, features: Features) -> Float[Tensor, " n"]:
        """Score each row; see `Detector`."""
        return score(state, features).sisome
