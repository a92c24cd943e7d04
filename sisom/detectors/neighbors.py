"""Deep nearest neighbors (Sun et al. 2022)."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from sisom.checks import check_features
from sisom.detectors.base import check_fit, check_width, strangeness
from sisom.errors import InputError
from sisom.nearest.kth import kth_distance
from sisom.nearest.points import SortedPoints
from sisom.nearest.queries import Queries
from sisom.rowwise import rowwise, unit
from sisom.types import Features

__all__ = ["KnnDetector"]


@dataclass(frozen=True)
class KnnDetector:
    """Exact distance to the k-th nearest fitted row.

    Rows are penultimate features at length one.

    With fewer fitted rows than `k` it is the farthest of them.
    """

    k: int = 50

    needs = frozenset[str]()

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"k starts at 1, got {self.k}")

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> SortedPoints:
        """Lay out the fitted rows, all as of one class."""
        check_fit(features, labels)
        points = rowwise(unit, features.penultimate).float()
        return SortedPoints.of_one_class(points)

    def score(self, state: SortedPoints, features: Features) -> Float[Tensor, " n"]:
        """Score each row; see `Detector`."""
        check_features(features)
        check_width(features, state.points.shape[1])
        queries = rowwise(unit, features.penultimate.to(state.points.device)).float()
        return strangeness(kth_distance(Queries.of_one_class(queries), state, min(self.k, len(state))))
