"""TypiClust (Hacohen et al. 2022): typical rows of barely labeled clusters."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sisom.errors import InputError
from sisom.nearest.distances import neighbors
from sisom.nearest.points import SortedPoints
from sisom.nearest.queries import Queries
from sisom.rowwise import rowwise, unit
from sisom.selectors.base import PoolSelector, features_of
from sisom.selectors.clusters import kmeans
from sisom.types import Candidates, Labeled

__all__ = ["TypiClustSelector", "unit_rows"]


@dataclass(frozen=True)
class TypiClustSelector(PoolSelector):
    """TypiClust: the most typical row of each cluster in turn.

    Rows are penultimate features at length one, of the pool and the labeled set, in `min(labels + k, most)` clusters.

    Clusters take turns, those with the fewest labels first and then the largest; of each the row with the least mean
    distance to its `neighbors` nearest unlabeled rows of the cluster. Clusters of `small` rows or fewer wait until the
    others are used up.
    """

    most: int = 500
    neighbors: int = 20
    small: int = 5

    needs = frozenset({"features", "labeled"})

    def __post_init__(self) -> None:
        if min(self.most, self.neighbors) < 1 or self.small < 0:
            raise InputError("TypiClust needs at least one cluster and one neighbor")

    def _pick(self, pool: Candidates, labeled: Labeled, k: int, *, seed: int) -> Sequence[int]:
        rows = unit_rows(pool, labeled)
        n = len(pool)
        cluster = kmeans(rows, min(len(labeled) + k, self.most, len(rows)), seed=seed)
        size = torch.bincount(cluster).tolist()
        labels = torch.bincount(cluster[n:], minlength=len(size)).tolist()
        members = {c: (cluster[:n] == c).nonzero().flatten() for c in range(len(size))}
        order = sorted(members, key=lambda c: (size[c] <= self.small, labels[c], -size[c]))
        large = sum(count > self.small for count in size)
        picks: list[int] = []
        for turn in (order[:large], order[large:]):
            while len(picks) < k and any(len(members[c]) for c in turn):
                for c in turn[: k - len(picks)]:
                    if len(members[c]):
                        best = self._most_typical(rows[members[c]])
                        picks.append(int(members[c][best]))
                        members[c] = members[c][torch.arange(len(members[c])) != best]
        return picks

    def _most_typical(self, rows: Float[Tensor, "m p"]) -> int:
        count = min(self.neighbors, max(1, len(rows) // 2))
        queries = Queries.of_one_class(rows, hidden=torch.arange(len(rows)))
        near = neighbors(queries, SortedPoints.of_one_class(rows), inner=count, outer=0)
        return int(near.inner.double().mean(dim=1).argmin())


def unit_rows(pool: Candidates, labeled: Labeled) -> Float[Tensor, "all p"]:
    """Scale penultimate features to length one: the pool's, then the labeled ones.

    The labeled ones come in an order of their own values.
    """
    rows = rowwise(unit, features_of(pool).penultimate).float().cpu()
    if not len(labeled):
        return rows
    known = rowwise(unit, features_of(labeled).penultimate).float().cpu()
    plain = known.numpy()
    order: list[int] = sorted(range(len(known)), key=lambda row: plain[row].tobytes())
    return torch.cat([rows, known[order]])
