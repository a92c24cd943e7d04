"""BASE (Emam et al. 2021): rows nearest to their decision boundary."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sisom.network.head import Head
from sisom.rowwise import rowwise
from sisom.selectors.base import PoolSelector, features_of
from sisom.types import Candidates, Labeled

__all__ = ["BaseSelector"]


@dataclass(frozen=True, eq=False)
class BaseSelector(PoolSelector):
    """BASE: each class in turn picks the rows nearest to its boundary.

    For a row that is predicted to be of the class that is the nearest boundary; for any other, the one between its
    class and this. Distances are those of penultimate features when the `head` is given, and otherwise differences of
    logits, as if the weights of any two classes were equally far apart.
    """

    head: Head | None = None

    needs = frozenset({"features"})

    def _pick(self, pool: Candidates, labeled: Labeled, k: int, *, seed: int) -> Sequence[int]:  # noqa: ARG002
        logits = features_of(pool).logits
        classes = logits.shape[1]
        gaps = torch.ones(classes, classes, dtype=torch.float64) if self.head is None else self.head.gaps()
        near = rowwise(lambda rows: _boundaries(rows, gaps.to(rows.device)), logits).cpu()
        left = torch.ones(len(pool), dtype=torch.bool)
        picks: list[int] = []
        for c in range(classes):
            share = k // classes + (c < k % classes)
            order = near[:, c].masked_fill(~left, torch.inf).argsort(stable=True)  # ties to the lower id
            picks += order[:share].tolist()
            left[order[:share]] = False
        return picks


def _boundaries(logits: Float[Tensor, "n K"], gaps: Float[Tensor, "K K"]) -> Float[Tensor, "n K"]:
    """Measure each row's distance to each class's boundary.

    The largest float stands for two classes without one.
    """
    best, predicted = logits.max(dim=1, keepdim=True)
    gap = gaps[predicted[:, 0]]
    never = torch.finfo(logits.dtype).max
    apart = torch.where(gap > 0, (best - logits) / gap.clamp(min=1e-300), never)
    apart = apart.scatter(1, predicted, never)
    return apart.scatter(1, predicted, apart.amin(dim=1, keepdim=True))
