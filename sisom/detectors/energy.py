"""The energy of the logits: no bank, no distances."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from sisom.bank import energy_of
from sisom.checks import check_features, check_labels
from sisom.types import Features

__all__ = ["EnergyDetector"]


@dataclass(frozen=True)
class EnergyDetector:
    """`-logsumexp` of the logits; the state is empty."""

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> tuple[()]:
        """The state; see `Detector`."""
        check_labels(labels, len(features), features.logits.shape[1])
        check_features(features)
        return ()

    def score(self, state: tuple[()], features: Features) -> Float[Tensor, " n"]:  # noqa: ARG002
        """One score a row; see `Detector`."""
        check_features(features)
        return energy_of(features.logits)
