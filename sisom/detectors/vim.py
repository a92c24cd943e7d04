"""Virtual-logit matching (ViM, Wang et al. 2022): residual and energy."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.checks import check_features
from sisom.detectors.base import check_fit, check_width, needed, strangeness
from sisom.errors import InputError
from sisom.network.head import Head
from sisom.rowwise import rowwise
from sisom.types import Features

__all__ = ["Subspace", "VimDetector"]


@dataclass(frozen=True, eq=False)
class Subspace:
    """Directions outside of the principal subspace.

    Args:
        origin: the point that rows are seen from.
        outside: the directions, as columns.
        weight: of the residual beside the energy.
    """

    origin: Float[Tensor, " p"]
    outside: Float[Tensor, "p q"]
    weight: float = 1.0

    def residual(self, rows: Float[Tensor, "n p"]) -> Float[Tensor, " n"]:
        """Measure the length of the part of float64 rows that lies outside."""
        outside: Tensor = torch.linalg.vector_norm((rows - self.origin) @ self.outside, dim=1)
        return outside


@dataclass(frozen=True, eq=False)
class VimDetector:
    """ViM: the weighted residual plus the energy.

    Args:
        dim: of the principal subspace, at most one less than the features have. None is the published choice: 1000
            from 2048 features on, 512 from 768 on, half of them below.
        head: the classifier's last layer.
    """

    dim: int | None = None
    head: Head | None = None

    needs = frozenset({"head"})

    def __post_init__(self) -> None:
        if self.dim is not None and self.dim < 0:
            raise InputError(f"dim must not be negative, got {self.dim}")

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> Subspace:
        """Fit the subspace and the weight of its residual.

        The weight makes the residual's mean that of the largest logits.
        """
        check_fit(features, labels)
        rows = features.penultimate.detach().double()
        head = needed(self.head, features)
        weight, bias = head.weight.double().to(rows.device), head.bias.double().to(rows.device)
        origin = -torch.linalg.pinv(weight) @ bias
        moved = rows - origin
        vectors = torch.linalg.eigh(moved.T @ moved / len(rows)).eigenvectors  # ascending
        subspace = Subspace(origin, vectors[:, : rows.shape[1] - self._principal(rows.shape[1])])
        mean = float(subspace.residual(rows).mean())
        largest = float(features.logits.double().amax(dim=1).mean())
        # Rows that fill the principal subspace alone say nothing of how much a residual means.
        return Subspace(origin, subspace.outside, largest / mean if mean > 0 else 0.0)

    def score(self, state: Subspace, features: Features) -> Float[Tensor, " n"]:
        """Score each row; see `Detector`."""
        check_features(features)
        check_width(features, len(state.origin))
        return strangeness(
            rowwise(
                lambda h, logits: state.weight * state.residual(h) - torch.logsumexp(logits, dim=1),
                features.penultimate,
                features.logits,
            )
        )

    def _principal(self, width: int) -> int:
        published = 1000 if width >= 2048 else 512 if width >= 768 else width // 2
        return min(published if self.dim is None else self.dim, width - 1)
