"""The seam every detector fits: pure `fit` and `score`, with the state as a value between them."""

from typing import Protocol, TypeVar

from jaxtyping import Float, Int
from torch import Tensor

from sisom.types import Features

__all__ = ["Detector"]

State = TypeVar("State")


class Detector(Protocol[State]):
    """Says how strange each image is to a labeled set. Remembers nothing between calls."""

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> State:
        """Everything `score` needs, from labeled features; raises `EmptyInput` without rows."""
        ...

    def score(self, state: State, features: Features) -> Float[Tensor, " n"]:
        """One finite score a row, higher is stranger, independent of the other rows."""
        ...
