"""Selectors that ask about the strangest rows first."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sisom.errors import ShapeMismatch
from sisom.types import Scores

__all__ = ["EnergySelector", "SisomSelector", "SisomeSelector"]


@dataclass(frozen=True)
class SisomeSelector:
    """By the fused score: the paper's choice."""

    def priority(self, ids: Sequence[str], scores: Scores, *, seed: int) -> Float[Tensor, " n"]:  # noqa: ARG002
        """The score as it is."""
        return _as_priority(ids, scores.sisome)


@dataclass(frozen=True)
class SisomSelector:
    """By the ratio alone."""

    def priority(self, ids: Sequence[str], scores: Scores, *, seed: int) -> Float[Tensor, " n"]:  # noqa: ARG002
        """The score as it is."""
        return _as_priority(ids, scores.sisom)


@dataclass(frozen=True)
class EnergySelector:
    """By the energy alone."""

    def priority(self, ids: Sequence[str], scores: Scores, *, seed: int) -> Float[Tensor, " n"]:  # noqa: ARG002
        """The score as it is."""
        return _as_priority(ids, scores.energy)


def _as_priority(ids: Sequence[str], score: Tensor) -> Tensor:
    if len(ids) != len(score):
        raise ShapeMismatch(f"{len(ids)} ids for {len(score)} scores")
    return score.double()
