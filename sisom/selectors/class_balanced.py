"""Any ranking, levelled over the predicted classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.errors import BudgetTooLarge, ShapeMismatch
from sisom.selectors.base import PoolSelector, RowSelector, predicted_of, top
from sisom.selectors.by_score import SisomeSelector
from sisom.types import Candidates, Labeled

__all__ = ["ClassBalancedSelector", "class_balanced"]


@dataclass(frozen=True)
class ClassBalancedSelector(PoolSelector):
    """Ranking of another selector, levelled over the predicted classes.

    Each pick is for the class with the fewest labels and picks so far.
    """

    of: RowSelector = field(default_factory=SisomeSelector)

    @property
    def needs(self) -> frozenset[str]:
        """Requirements of the ranking, and the predicted classes.

        They come from the scores or the logits.
        """
        predicted = self.of.needs & {"scores", "features"} or {"scores"}
        return self.of.needs | predicted | {"labeled"}

    @property
    def committee(self) -> str | None:
        """Members of the committee that the ranking asks: "dropout" or "ensemble"."""
        return getattr(self.of, "committee", None)

    def _pick(self, pool: Candidates, labeled: Labeled, k: int, *, seed: int) -> Sequence[int]:
        priority = self.of.priority_of(pool, seed=seed)
        counts = labeled.counts()
        return [
            int(row) for row in class_balanced(pool.ids, priority, predicted_of(pool), k=k, labeled=counts)
        ]


def class_balanced(
    ids: Sequence[str],
    priority: Float[Tensor, " n"],
    predicted: Int[Tensor, " n"],
    *,
    k: int,
    labeled: Mapping[int, int] | None = None,
) -> Int[Tensor, " k"]:
    """Pick the `k` best rows under a levelling of classes.

    Each pick goes to the class that has the fewest so far.

    `labeled` counts what each class has already; classes with equal counts take turns by their best row's
    priority, then by id. A class that runs out leaves its turns to the others.
    """
    if len(predicted) != len(ids):
        raise ShapeMismatch(f"{len(ids)} ids for {len(predicted)} predictions")
    if not 0 <= k <= len(ids):
        raise BudgetTooLarge(f"asked for {k} of {len(ids)} rows")
    order = top(ids, priority, len(ids)).tolist()
    classes, values = predicted.tolist(), priority.tolist()
    queues: dict[int, list[int]] = {}
    for row in reversed(order):  # best last, to pop
        queues.setdefault(classes[row], []).append(row)
    have = {c: (labeled or {}).get(c, 0) for c in queues}
    picks = []
    for _ in range(k):
        c = min(queues, key=lambda c: (have[c], -values[queues[c][-1]], ids[queues[c][-1]]))
        picks.append(queues[c].pop())
        have[c] += 1
        if not queues[c]:
            del queues[c]
    return torch.tensor(picks, dtype=torch.int64)
