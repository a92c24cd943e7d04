"""Information density (Settles and Craven 2008): unsure, and like many others."""

from collections.abc import Sequence
from dataclasses import dataclass

from sisom.rowwise import rowwise, unit
from sisom.selectors.base import PoolSelector, features_of, top
from sisom.softmax import entropy
from sisom.types import Candidates, Labeled

__all__ = ["InformationDensitySelector"]


@dataclass(frozen=True)
class InformationDensitySelector(PoolSelector):
    """Entropy times density: the mean cosine to all rows, to a power.

    The power is `beta`; a negative mean counts as zero.

    The mean cosine is the cosine to the sum of all rows at length one, so that no pair is ever looked at.
    """

    beta: float = 1.0

    needs = frozenset({"features"})

    def _pick(self, pool: Candidates, labeled: Labeled, k: int, *, seed: int) -> Sequence[int]:  # noqa: ARG002
        features = features_of(pool)
        mean = rowwise(unit, features.penultimate).mean(dim=0)
        worth = rowwise(
            lambda logits, h: entropy(logits) * (unit(h) * mean).sum(dim=1).clamp(min=0) ** self.beta,
            features.logits,
            features.penultimate,
        )
        return [int(row) for row in top(pool.ids, worth.cpu(), k)]
