"""fDBD (Liu and Qin 2024): distance to the predicted class's boundaries."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.checks import check_features
from sisom.detectors.base import check_fit, needed, strangeness
from sisom.network.head import Head
from sisom.rowwise import rowwise
from sisom.types import Features

__all__ = ["FdbdDetector"]


@dataclass(frozen=True, eq=False)
class FdbdDetector:
    """Mean distance to the other classes' boundaries, relative and negative.

    It is divided by the distance to the mean of the fitted rows.
    """

    head: Head | None = None

    needs = frozenset({"head"})

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> Float[Tensor, " p"]:
        """Compute the mean of the fitted rows."""
        check_fit(features, labels)
        needed(self.head, features)
        return features.penultimate.detach().double().mean(dim=0)

    def score(self, state: Float[Tensor, " p"], features: Features) -> Float[Tensor, " n"]:
        """Score each row; see `Detector`."""
        check_features(features)
        gaps = needed(self.head, features).gaps().to(state.device)

        def negative(h: Tensor, logits: Tensor) -> Tensor:
            best, predicted = logits.max(dim=1)
            gap = gaps[predicted]
            # Two classes of equal weights have no boundary; it counts as no distance.
            apart = torch.where(gap > 0, (best[:, None] - logits) / gap.clamp(min=1e-300), 0.0)
            mean = apart.sum(dim=1) / max(1, logits.shape[1] - 1)
            spread: Tensor = torch.linalg.vector_norm(h - state, dim=1)
            return -mean / spread.clamp(min=1e-30)

        return strangeness(rowwise(negative, features.penultimate, features.logits))
