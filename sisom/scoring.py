"""Scores of unlabeled images against a bank (section 7)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.bank.bank import FeatureBank
from sisom.bank.enhance import enhance
from sisom.bank.fit import energy_of
from sisom.bank.ratios import Anchors, BankPoints, ratios
from sisom.checks import check_features
from sisom.errors import ShapeMismatch
from sisom.nearest.distances import BUDGET_BYTES
from sisom.types import Features, Scores

__all__ = ["fuse", "score"]


def score(
    bank: FeatureBank,
    features: Features,
    *,
    exclude: Int[Tensor, " n"] | None = None,
    budget_bytes: int = BUDGET_BYTES,
) -> Scores:
    """Score images: SISOM, SISOMe and their parts; higher is stranger.

    Every number is finite.

    Distances are taken for the predicted class. `exclude` names, for each row, the fitted row that it is (-1
    for none), so that a labeled image can be scored without seeing itself. Runs on the bank's device and
    returns there. Features may hold more layers than the bank needs. No row's scores depend on the other
    rows, nor on `budget_bytes`, which is about how much scratch memory the distances take.

    Raises `LayerError` when a layer is missing, `ShapeMismatch` for other widths, `NonFinite` naming bad
    rows.
    """
    device = bank.points.device
    features = features.to(device)
    check_features(features)
    if features.logits.shape[1] > bank.num_classes:
        raise ShapeMismatch(
            f"the bank knows {bank.num_classes} classes, the logits {features.logits.shape[1]}"
        )
    if exclude is not None and tuple(exclude.shape) != (len(features),):
        raise ShapeMismatch(f"exclude needs shape ({len(features)},), got {tuple(exclude.shape)}")
    queries = enhance(features.saliency, features.layer_dims, bank.slopes)
    if queries.shape[1] != bank.points.shape[1]:
        raise ShapeMismatch(f"the bank has {bank.points.shape[1]} columns, the features {queries.shape[1]}")
    predicted = features.logits.argmax(dim=1)
    anchors = Anchors(bank.anchor_distances, bank.anchor_sources) if bank.outer == "anchor" else None
    found = ratios(
        queries,
        predicted,
        BankPoints(bank.sorted_points, bank.source, anchors),
        spec=bank.spec,
        exclude=None if exclude is None else exclude.to(device, torch.int64),
        budget_bytes=budget_bytes,
    )
    energy = energy_of(features.logits)
    return Scores(
        predicted=predicted,
        inner=found.inner,
        outer=found.outer,
        ratio=found.ratio,
        energy=energy,
        sisom=found.ratio,
        sisome=fuse(bank, energy, found.ratio),
    )


def fuse(bank: FeatureBank, energy: Float[Tensor, " n"], ratio: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Fuse energy and ratio to SISOMe.

    The energy counts where the space is badly separated (`r_avg` near one), the ratio where it is well separated.
    """
    on_energy, on_ratio = min(bank.r_avg, 1.0), max(1.0 - bank.r_avg, 0.0)
    e, r = energy.double(), ratio.double()
    if bank.fusion == "zscore":
        e, r = (e - bank.energy_mean) / bank.energy_std, (r - bank.r_avg) / bank.r_std
    limit = torch.finfo(torch.float32).max
    return (on_energy * e + on_ratio * r).clamp(-limit, limit).float()
