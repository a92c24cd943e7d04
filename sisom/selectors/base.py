"""Protocol of selectors, and the two kinds of them.

A row selector ranks each row by itself, so a pool can be streamed past it and only the best kept. A pool
selector looks at the rows together. Neither knows the rows' order: picks depend on ids and values alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.checks import check_features
from sisom.errors import BudgetTooLarge, InputError, NonFinite, ShapeMismatch
from sisom.types import Candidates, Features, Labeled, Scores

__all__ = [
    "PoolSelector",
    "RowSelector",
    "Selector",
    "committee_of",
    "features_of",
    "predicted_of",
    "scores_of",
    "top",
]


@runtime_checkable
class Selector(Protocol):
    """A chooser of rows to ask about; it remembers nothing between calls."""

    @property
    def needs(self) -> frozenset[str]:
        """Requirements, of "scores", "features", "committee" and "labeled".

        The first three are parts of the pool.
        """
        ...

    def select(self, pool: Candidates, labeled: Labeled, k: int, *, seed: int) -> Int[Tensor, " k"]:
        """Choose the `k` rows to ask about, in pick order.

        Ties go to the lower id.

        Raises `BudgetTooLarge` for more picks than rows and `InputError` where something that it needs is missing.
        """
        ...


class RowSelector(ABC):
    """Selector that ranks each row by that row and the seed alone.

    Hence a streaming top-k by (priority descending, id ascending) picks the same rows however the pool is
    cut.
    """

    @property
    @abstractmethod
    def needs(self) -> frozenset[str]:
        """See `Selector`."""

    @abstractmethod
    def priority_of(self, pool: Candidates, *, seed: int) -> Float[Tensor, " n"]:
        """Rank rows by finite float64 priorities; the highest are asked about first."""

    def priority(self, ids: Sequence[str], scores: Scores, *, seed: int) -> Float[Tensor, " n"]:
        """Rank rows of which only the scores are known."""
        return self.priority_of(Candidates(ids, scores), seed=seed)

    def select(self, pool: Candidates, labeled: Labeled, k: int, *, seed: int) -> Int[Tensor, " k"]:  # noqa: ARG002
        """Choose the `k` highest priorities; see `Selector`."""
        return top(pool.ids, self.priority_of(pool, seed=seed), k)


class PoolSelector(ABC):
    """Selector that looks at all rows together.

    The subclass sees them in the order of their ids, which must be unique.
    """

    @property
    @abstractmethod
    def needs(self) -> frozenset[str]:
        """See `Selector`."""

    @abstractmethod
    def _pick(self, pool: Candidates, labeled: Labeled, k: int, *, seed: int) -> Sequence[int]:
        """Pick `k` different rows of a pool that is ordered by id.

        In pick order; k is at least 1.
        """

    def select(self, pool: Candidates, labeled: Labeled, k: int, *, seed: int) -> Int[Tensor, " k"]:
        """See `Selector`."""
        _check_budget(k, len(pool))
        if k == 0:
            return torch.empty(0, dtype=torch.int64)
        ids = list(pool.ids)
        order = sorted(range(len(ids)), key=ids.__getitem__)
        twice = next((ids[b] for a, b in pairwise(order) if ids[a] == ids[b]), None)
        if twice is not None:
            raise InputError(f"id {twice!r} stands more than once among the candidates")
        in_order = order == list(range(len(ids)))
        picks = self._pick(pool if in_order else pool.select(order), labeled, k, seed=seed)
        return torch.tensor([order[row] for row in picks], dtype=torch.int64)


def top(ids: Sequence[str], priority: Float[Tensor, " n"], k: int) -> Int[Tensor, " k"]:
    """Return the rows of the `k` highest priorities, best first.

    Ties go to the lower id.

    Raises `BudgetTooLarge` when there are fewer rows than `k`, `ShapeMismatch` and `NonFinite` for bad
    priorities.
    """
    if tuple(priority.shape) != (len(ids),):
        raise ShapeMismatch(f"{len(ids)} ids need {len(ids)} priorities, got shape {tuple(priority.shape)}")
    _check_budget(k, len(ids))
    if not bool(torch.isfinite(priority).all()):
        raise NonFinite("priorities must be finite")
    values = priority.tolist()
    order = sorted(range(len(ids)), key=lambda row: (-values[row], ids[row]))
    return torch.tensor(order[:k], dtype=torch.int64)


def scores_of(pool: Candidates) -> Scores:
    """Return the pool's scores, or raise `InputError`."""
    if pool.scores is None:
        raise InputError("this selector needs the scores of the pool")
    return pool.scores


def features_of(rows: Candidates | Labeled) -> Features:
    """Return the checked features of the pool or of the labeled set.

    Raises:
        InputError: where there are none.
        NonFinite: for a NaN or an infinity.
    """
    if rows.features is None:
        whose = "pool" if isinstance(rows, Candidates) else "labeled set"
        raise InputError(f"this selector needs the features of the {whose}")
    check_features(rows.features)
    return rows.features


def committee_of(pool: Candidates) -> Float[Tensor, "members n K"]:
    """Return the committee's checked probabilities, or raise `InputError`."""
    if pool.committee is None or len(pool.committee) == 0:
        raise InputError("this selector needs the class probabilities of a committee's members")
    if not bool((torch.isfinite(pool.committee) & (pool.committee >= 0)).all()):
        raise NonFinite("a committee's probabilities must be finite and not negative")
    return pool.committee


def predicted_of(pool: Candidates) -> Int[Tensor, " n"]:
    """Return the predicted classes.

    They come from the scores or from the logits, whichever the pool has.
    """
    return features_of(pool).logits.argmax(dim=1) if pool.scores is None else pool.scores.predicted


def _check_budget(k: int, rows: int) -> None:
    if not 0 <= k <= rows:
        raise BudgetTooLarge(f"asked for {k} of {rows} rows")
