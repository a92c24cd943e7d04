"""Simplified Hopfield energy (SHE, Zhang et al. 2023): agreement with stored patterns."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.checks import check_features
from sisom.detectors.base import check_fit, check_width, strangeness
from sisom.rowwise import rowwise
from sisom.types import Features

__all__ = ["SheDetector"]


@dataclass(frozen=True)
class SheDetector:
    """Negative inner product with the mean feature of the predicted class."""

    needs = frozenset[str]()

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> Float[Tensor, "K p"]:
        """Compute each class's mean over its rows that are predicted correctly.

        Over all of its rows where no prediction is correct. A class without rows has zeros, with which nothing agrees.
        """
        check_fit(features, labels)
        rows = features.penultimate.detach().double()
        labels = labels.to(rows.device, torch.int64)
        right = (features.logits.argmax(dim=1) == labels).double()
        counted = torch.zeros(features.logits.shape[1], dtype=torch.float64, device=rows.device)
        hits = counted.clone().index_add_(0, labels, right)
        weight = torch.where(hits[labels] > 0, right, 1.0)
        sums = rows.new_zeros((len(counted), rows.shape[1])).index_add_(0, labels, weight[:, None] * rows)
        return sums / counted.index_add_(0, labels, weight).clamp(min=1)[:, None]

    def score(self, state: Float[Tensor, "K p"], features: Features) -> Float[Tensor, " n"]:
        """Score each row; see `Detector`."""
        check_features(features)
        check_width(features, state.shape[1])
        return strangeness(
            rowwise(
                lambda h, logits: -(h * state[logits.argmax(dim=1)]).sum(dim=1),
                features.penultimate,
                features.logits,
            )
        )
