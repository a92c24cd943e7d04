"""Selectors whose picks look at each other: SISOM with a growing bank, and any ranking levelled over the classes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from sisom.bank import fit_bank
from sisom.batches import class_balanced, greedy
from sisom.enhance import Slopes
from sisom.selectors.base import PoolSelector, RowSelector, features_of, predicted_of
from sisom.selectors.by_score import SisomeSelector
from sisom.types import Candidates, Labeled

__all__ = ["ClassBalancedSelector", "SisomeGreedySelector"]


@dataclass(frozen=True)
class SisomeGreedySelector(PoolSelector):
    """Each pick joins the bank under its predicted class before the next; see `sisom.greedy`.

    The bank is that of the whole labeled set, which must have two classes, and one of them two rows.
    """

    slopes: Slopes = 1.0
    by: Literal["sisom", "sisome"] = "sisome"

    needs = frozenset({"features", "labeled"})

    def _pick(self, pool: Candidates, labeled: Labeled, k: int, seed: int) -> Sequence[int]:  # noqa: ARG002
        bank = fit_bank(
            features_of(labeled), labeled.labels, slopes=self.slopes, num_classes=labeled.num_classes
        )
        rows, _ = greedy(bank, features_of(pool), pool.ids, k, by=self.by)
        return [int(row) for row in rows]


@dataclass(frozen=True)
class ClassBalancedSelector(PoolSelector):
    """The ranking of another selector, each pick for the predicted class with the fewest labels and picks so far."""

    of: RowSelector = field(default_factory=SisomeSelector)

    @property
    def needs(self) -> frozenset[str]:
        """Those of the ranking; the predicted classes come from the scores or the logits."""
        predicted = self.of.needs & {"scores", "features"} or {"scores"}
        return self.of.needs | predicted | {"labeled"}

    @property
    def committee(self) -> str | None:
        """Who votes where the ranking asks a committee: "dropout" or "ensemble"."""
        return getattr(self.of, "committee", None)

    def _pick(self, pool: Candidates, labeled: Labeled, k: int, seed: int) -> Sequence[int]:
        priority = self.of.priority_of(pool, seed=seed)
        counts = labeled.counts()
        return [int(row) for row in class_balanced(pool.ids, priority, predicted_of(pool), k, labeled=counts)]
