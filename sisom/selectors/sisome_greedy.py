"""SISOMe with a bank that grows by each pick."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.bank.bank import FeatureBank
from sisom.bank.enhance import Slopes, enhance
from sisom.bank.fit import fit_bank
from sisom.bank.ratios import divide
from sisom.checks import check_features
from sisom.errors import BudgetTooLarge, InputError, ShapeMismatch
from sisom.scoring import fuse, score
from sisom.selectors.base import PoolSelector, features_of
from sisom.types import Candidates, Features, Labeled

__all__ = ["SisomeGreedySelector", "greedy"]


@dataclass(frozen=True)
class SisomeGreedySelector(PoolSelector):
    """SISOMe, each pick joining the bank before the next; see `sisom.greedy`.

    The bank is that of the whole labeled set, which must have two classes, and one of them two rows.
    """

    slopes: Slopes = 1.0
    by: Literal["sisom", "sisome"] = "sisome"

    needs = frozenset({"features", "labeled"})

    def _pick(self, pool: Candidates, labeled: Labeled, k: int, *, seed: int) -> Sequence[int]:  # noqa: ARG002
        bank = fit_bank(
            features_of(labeled), labeled.labels, slopes=self.slopes, num_classes=labeled.num_classes
        )
        rows, _ = greedy(bank, features_of(pool), pool.ids, k=k, by=self.by)
        return [int(row) for row in rows]


def greedy(
    bank: FeatureBank, features: Features, ids: Sequence[str], *, k: int, by: str = "sisome"
) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
    """Pick rows one by one, each joining the bank (section 10.5).

    A pick joins under its predicted class before the next one is made.

    Returns the rows in pick order with the score that each had when it was picked, by "sisome" or "sisom",
    ties to the lower id. A pick changes another row's distances only if it is nearer than what is known, so
    one pass over the rows' differences to the pick suffices: O(n d) a pick, and the same picks as scoring all
    rows against the grown bank. The bank's statistics stay as they were fitted. Needs `outer="sample"`, rank
    1 and one neighbor. Raises `BudgetTooLarge` and `InputError`.
    """
    if bank.outer != "sample" or bank.rank != 1 or bank.neighbors != 1:
        raise InputError('the greedy query needs a bank with outer="sample", rank=1 and neighbors=1')
    if by not in ("sisom", "sisome"):
        raise InputError(f'by must be "sisom" or "sisome", got {by!r}')
    if len(ids) != len(features):
        raise ShapeMismatch(f"{len(ids)} ids for {len(features)} rows")
    if not 0 <= k <= len(ids):
        raise BudgetTooLarge(f"asked for {k} of {len(ids)} rows")
    features = features.to(bank.points.device)
    check_features(features)
    points = enhance(features.saliency, features.layer_dims, bank.slopes)
    known = score(bank, features)
    predicted, energy = known.predicted, known.energy
    # Without a bank point of its class a row has no inner distance; infinity lets the first pick give it one.
    present = torch.isin(predicted, bank.labels)
    inner = torch.where(present, known.inner, torch.inf)
    outer = known.outer
    rank_of_id = torch.empty(len(ids), dtype=torch.int64, device=points.device)
    by_id = sorted(range(len(ids)), key=lambda row: ids[row])
    rank_of_id[by_id] = torch.arange(len(ids), device=points.device)
    left = torch.ones(len(ids), dtype=torch.bool, device=points.device)
    rows, values = [], []
    for _ in range(k):
        ratio = divide(inner, outer, torch.isfinite(inner)).ratio
        strange = ratio if by == "sisom" else fuse(bank, energy, ratio)
        best = strange[left].max()
        tied = left & (strange == best)
        row = int(torch.where(tied, rank_of_id, len(ids)).argmin())
        rows.append(row)
        values.append(float(best))
        left[row] = False
        distance = (points - points[row]).square_().sum(dim=1).sqrt_()
        same = predicted == predicted[row]
        inner = torch.where(same, torch.minimum(inner, distance), inner)
        outer = torch.where(same, outer, torch.minimum(outer, distance))
    return torch.tensor(rows, dtype=torch.int64), torch.tensor(values, dtype=torch.float32)
