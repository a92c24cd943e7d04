"""Selectors that ask about the strangest rows first."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sisom.selectors.base import RowSelector, scores_of
from sisom.types import Candidates

__all__ = ["EnergySelector", "SisomSelector", "SisomeSelector"]


class _ScoreSelector(RowSelector):
    needs = frozenset({"scores"})


@dataclass(frozen=True)
class SisomeSelector(_ScoreSelector):
    """Rank by the fused score: the paper's choice."""

    def priority_of(self, pool: Candidates, *, seed: int) -> Float[Tensor, " n"]:  # noqa: ARG002
        """Take the score as it is."""
        return scores_of(pool).sisome.double()


@dataclass(frozen=True)
class SisomSelector(_ScoreSelector):
    """Rank by the ratio alone."""

    def priority_of(self, pool: Candidates, *, seed: int) -> Float[Tensor, " n"]:  # noqa: ARG002
        """Take the score as it is."""
        return scores_of(pool).sisom.double()


@dataclass(frozen=True)
class EnergySelector(_ScoreSelector):
    """Rank by the energy alone."""

    def priority_of(self, pool: Candidates, *, seed: int) -> Float[Tensor, " n"]:  # noqa: ARG002
        """Take the score as it is."""
        return scores_of(pool).energy.double()
