"""Protocol of detectors: pure `fit` and `score`, with the state between them."""

from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.checks import check_features, check_labels
from sisom.errors import InputError, ShapeMismatch
from sisom.network.head import Head
from sisom.types import Features

__all__ = ["Detector", "check_fit", "check_width", "needed", "strangeness"]

State = TypeVar("State")


@runtime_checkable
class Detector(Protocol[State]):
    """A judge of how strange images are to a labeled set.

    It remembers nothing between calls.

    `needs` says what it must be given beside features: "head", the classifier's last layer, as the constructor's
    `head`; "model", to prepare the images from which the features are taken (see `OdinDetector`).
    """

    @property
    def needs(self) -> frozenset[str]:
        """Requirements: a subset of "head" and "model"."""
        ...

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> State:
        """Fit to labeled features; return everything that `score` needs.

        Raises:
            EmptyInput: without rows.
        """
        ...

    def score(self, state: State, features: Features) -> Float[Tensor, " n"]:
        """Score each row, finite float32; higher is stranger.

        A row's score does not depend on the other rows.
        """
        ...


def check_fit(features: Features, labels: Tensor) -> None:
    """Raise for labeled features that nothing can be fitted to."""
    check_labels(labels, len(features), features.logits.shape[1])
    check_features(features)


def check_width(features: Features, width: int) -> None:
    """Raise `ShapeMismatch` unless the penultimate features have the width that was fitted."""
    if features.penultimate.shape[1] != width:
        raise ShapeMismatch(
            f"fitted to {width} penultimate features, these rows have {features.penultimate.shape[1]}"
        )


def needed(head: Head | None, features: Features) -> Head:
    """Return the head of a detector that cannot do without one.

    Raises:
        InputError: for None.
        ShapeMismatch: for the head of another network.
    """
    if head is None:
        raise InputError(
            "this detector needs the classifier's last layer: construct it with head=Head.of(model)"
        )
    found = (features.logits.shape[1], features.penultimate.shape[1])
    if tuple(head.weight.shape) != found:
        raise ShapeMismatch(f"a head of shape {tuple(head.weight.shape)} for features of shape {found}")
    return head


def strangeness(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Bring scores of any size into finite float32."""
    limit = torch.finfo(torch.float32).max
    return values.clamp(-limit, limit).float()
