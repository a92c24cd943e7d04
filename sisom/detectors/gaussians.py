"""Mahalanobis distances, plain and relative.

After Lee et al. 2018 and Ren et al. 2021. Each class is one Gaussian; all share one covariance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.checks import check_features
from sisom.detectors.base import check_fit, check_width, strangeness
from sisom.rowwise import rowwise
from sisom.types import Features

__all__ = ["Gaussians", "MahalanobisDetector", "RelativeMahalanobisDetector"]


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Class means, in coordinates where the shared covariance is the identity; float64.

    Directions in which the fitted rows do not vary have no coordinate: a distance along them is not counted.
    """

    center: Float[Tensor, " p"]
    whitening: Float[Tensor, "p r"]
    means: Float[Tensor, "c r"]

    @classmethod
    def of(cls, rows: Float[Tensor, "n p"], groups: Int[Tensor, " n"]) -> Gaussians:
        """Fit by maximum likelihood, one mean for each group that occurs."""
        rows = rows.detach().double()
        present, place = torch.unique(groups.to(rows.device), return_inverse=True)
        center = rows.mean(dim=0)
        centered = rows - center
        sums = centered.new_zeros((len(present), rows.shape[1])).index_add_(0, place, centered)
        means = sums / torch.bincount(place)[:, None]
        residual = centered - means[place]
        values, vectors = torch.linalg.eigh(residual.T @ residual / len(rows))
        # The pseudo-inverse: what is left of an eigenvalue of zero after rounding must not be inverted.
        least = values[-1].clamp(min=0) * rows.shape[1] * torch.finfo(values.dtype).eps
        kept = values > least
        whitening = vectors[:, kept] / values[kept].sqrt()
        return cls(center, whitening, means @ whitening)

    def nearest(self, rows: Float[Tensor, "n p"]) -> Float[Tensor, " n"]:
        """Measure the squared Mahalanobis distance of float64 rows to the nearest mean."""
        place = (rows - self.center) @ self.whitening
        lengths = self.means.square().sum(dim=1)
        squared = place.square().sum(dim=1, keepdim=True) + lengths - 2 * place @ self.means.T
        return squared.amin(dim=1).clamp(min=0)


@dataclass(frozen=True)
class MahalanobisDetector:
    """Squared distance to the nearest class mean, by the shared covariance."""

    needs = frozenset[str]()

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> Gaussians:
        """Fit the class means and the shared covariance."""
        check_fit(features, labels)
        return Gaussians.of(features.penultimate, labels)

    def score(self, state: Gaussians, features: Features) -> Float[Tensor, " n"]:
        """Score each row; see `Detector`."""
        check_features(features)
        check_width(features, len(state.center))
        return strangeness(rowwise(state.nearest, features.penultimate))


@dataclass(frozen=True)
class RelativeMahalanobisDetector:
    """Mahalanobis distance, less the one to all rows as one group."""

    needs = frozenset[str]()

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> tuple[Gaussians, Gaussians]:
        """Fit the Gaussians of the classes and the one of all rows."""
        check_fit(features, labels)
        rows = features.penultimate
        return Gaussians.of(rows, labels), Gaussians.of(rows, torch.zeros_like(labels))

    def score(self, state: tuple[Gaussians, Gaussians], features: Features) -> Float[Tensor, " n"]:
        """Score each row; see `Detector`."""
        check_features(features)
        classes, everything = state
        check_width(features, len(classes.center))
        return strangeness(
            rowwise(lambda h: classes.nearest(h) - everything.nearest(h), features.penultimate)
        )
