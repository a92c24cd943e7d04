"""The seam every selector fits, and the one way to cut a ranking."""

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.errors import BudgetTooLarge, NonFinite, ShapeMismatch
from sisom.types import Scores

__all__ = ["Selector", "top"]


class Selector(Protocol):
    """Gives every row of a pool a priority that depends on that row and the seed alone.

    Hence a streaming top-k by (priority descending, id ascending) picks the same rows however the pool is
    cut.
    """

    def priority(self, ids: Sequence[str], scores: Scores, *, seed: int) -> Float[Tensor, " n"]:
        """Finite float64 priorities; the highest are asked about first."""
        ...


def top(ids: Sequence[str], priority: Float[Tensor, " n"], k: int) -> Int[Tensor, " k"]:
    """Row indices of the `k` highest priorities, best first, ties by ascending id.

    Raises `BudgetTooLarge` when there are fewer rows than `k`, `ShapeMismatch` and `NonFinite` for bad
    priorities.
    """
    if tuple(priority.shape) != (len(ids),):
        raise ShapeMismatch(f"{len(ids)} ids need {len(ids)} priorities, got shape {tuple(priority.shape)}")
    if not 0 <= k <= len(ids):
        raise BudgetTooLarge(f"asked for {k} of {len(ids)} rows")
    if not bool(torch.isfinite(priority).all()):
        raise NonFinite("priorities must be finite")
    values = priority.tolist()
    order = sorted(range(len(ids)), key=lambda row: (-values[row], ids[row]))
    return torch.tensor(order[:k], dtype=torch.int64)
