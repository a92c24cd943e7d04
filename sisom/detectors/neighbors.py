"""Deep nearest neighbors (Sun et al. 2022)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.checks import check_features
from sisom.detectors.base import check_fit, check_width, strangeness
from sisom.errors import InputError
from sisom.nearest.distances import neighbors
from sisom.nearest.gallery import Gallery
from sisom.rowwise import rowwise, unit
from sisom.types import Features

__all__ = ["KnnDetector"]


@dataclass(frozen=True)
class KnnDetector:
    """The distance to the k-th nearest fitted row, among penultimate features of length one; exact.

    With fewer fitted rows than `k` it is the farthest of them.
    """

    k: int = 50

    needs = frozenset[str]()

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"k starts at 1, got {self.k}")

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> Gallery:
        """The fitted rows, all as of one class."""
        check_fit(features, labels)
        points = rowwise(unit, features.penultimate).float()
        return Gallery.of(points, torch.zeros(len(points), dtype=torch.int64, device=points.device))

    def score(self, state: Gallery, features: Features) -> Float[Tensor, " n"]:
        """One score a row; see `Detector`."""
        check_features(features)
        check_width(features, state.points.shape[1])
        queries = rowwise(unit, features.penultimate.to(state.points.device)).float()
        same = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
        near = neighbors(queries, same, state, inner=min(self.k, len(state)), outer=0)
        return strangeness(near.inner[:, -1])
