"""A bank that lives: add labels, remove rows, raise the class count, merge shards; each equal to a rebuild.

The ratio of a point depends on all others, so statistics are taken again from the points that the bank holds;
the network is not. That needs every fitted row in the bank: a thinned bank refuses, because the rows it left
out are part of its statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from sisom.bank.bank import FeatureBank
from sisom.bank.enhance import enhance
from sisom.bank.fit import energy_of, leave_one_out, statistics_of
from sisom.bank.ratios import average_and_deviation
from sisom.checks import check_features, check_labels
from sisom.errors import EmptyInput, InputError, LabelError
from sisom.nearest.gallery import Gallery
from sisom.types import Features

__all__ = ["add_labeled", "merge_banks", "raise_classes", "remove_rows"]


def add_labeled(bank: FeatureBank, features: Features, labels: Int[Tensor, " n"]) -> FeatureBank:
    """The bank with `features` as further fitted rows: `source` goes on where the bank's rows ended.

    Equal to fitting all rows together, but for layers that the old rows alone had pruned. The threshold is
    dropped, because the scores move.
    """
    _check_whole(bank)
    labels = labels.to(bank.points.device, torch.int64)
    features = features.to(bank.points.device)
    check_labels(labels, len(features), bank.num_classes)
    check_features(features)
    points = enhance(features.saliency, features.layer_dims, bank.slopes)
    rows = torch.arange(bank.fitted, bank.fitted + len(features), device=points.device)
    return _refit(
        bank,
        torch.cat([bank.points, points]),
        torch.cat([bank.labels, labels]),
        torch.cat([bank.source, rows]),
        torch.cat([bank.energies, energy_of(features.logits)]),
        bank.fitted + len(features),
    )


def remove_rows(bank: FeatureBank, rows: Int[Tensor, " r"]) -> FeatureBank:
    """The bank without the fitted rows `rows` (values of `source`); raises `InputError` for a row it lacks."""
    _check_whole(bank)
    rows = rows.to(bank.source.device, torch.int64)
    strange = rows[~torch.isin(rows, bank.source)]
    if len(strange):
        raise InputError(f"the bank has no fitted row {int(strange[0])}")
    keep = ~torch.isin(bank.source, rows)
    if not bool(keep.any()):
        raise EmptyInput("removing these rows would leave no points")
    return _refit(
        bank, bank.points[keep], bank.labels[keep], bank.source[keep], bank.energies[keep], bank.fitted
    )


def raise_classes(bank: FeatureBank, num_classes: int) -> FeatureBank:
    """The bank for a taxonomy that has grown; points of the new classes come with `add_labeled`."""
    if num_classes < bank.num_classes:
        raise LabelError(f"the bank knows {bank.num_classes} classes already, got {num_classes}")
    return replace(bank, num_classes=num_classes)


def merge_banks(banks: Sequence[FeatureBank]) -> FeatureBank:
    """One bank of the banks of shards, equal to the bank of all rows; rows are numbered shard after shard.

    The shards must be whole and agree on everything that a fit was told: slopes, layers, variant, classes.
    """
    if not banks:
        raise EmptyInput("no banks to merge")
    first = banks[0]
    for bank in banks:
        _check_whole(bank)
        for name in (
            "slopes",
            "layer_dims",
            "outer",
            "fusion",
            "rank",
            "neighbors",
            "num_classes",
            "fixed_r_avg",
        ):
            if getattr(bank, name) != getattr(first, name):
                raise InputError(
                    f"banks differ in {name}: {getattr(first, name)} and {getattr(bank, name)}; "
                    "fit the shards with the same options and prune=False"
                )
    offsets = [0]
    for bank in banks:
        offsets.append(offsets[-1] + bank.fitted)
    return _refit(
        first,
        torch.cat([bank.points for bank in banks]),
        torch.cat([bank.labels for bank in banks]),
        torch.cat([bank.source + offset for bank, offset in zip(banks, offsets, strict=False)]),
        torch.cat([bank.energies for bank in banks]),
        offsets[-1],
    )


def _refit(
    bank: FeatureBank, points: Tensor, labels: Tensor, source: Tensor, energies: Tensor, fitted: int
) -> FeatureBank:
    order = source.argsort()  # by row, then by class: the order of a fit
    order = order[labels[order].argsort(stable=True)]
    points, labels, source, energies = points[order], labels[order], source[order], energies[order]
    found, anchors = leave_one_out(
        Gallery.of(points, labels), source, outer=bank.outer, rank=bank.rank, neighbors=bank.neighbors
    )
    r_avg, r_std = statistics_of(found, given=bank.r_avg if bank.fixed_r_avg else None)
    energy_mean, energy_std = average_and_deviation(energies)
    return replace(
        bank,
        points=points,
        labels=labels,
        source=source,
        energies=energies,
        anchor_distances=anchors.distances if anchors else points.new_empty((0, 2)),
        anchor_sources=anchors.sources if anchors else source.new_empty(0),
        r_avg=r_avg,
        r_std=r_std,
        energy_mean=energy_mean,
        energy_std=energy_std,
        counted=int(found.valid.sum()),
        skipped=int((~found.valid).sum()),
        fitted=fitted,
        threshold=None,
    )


def _check_whole(bank: FeatureBank) -> None:
    if bank.subset_method != "all" or bank.held_out:
        kind = "statistics from held-out rows" if bank.held_out else "a subset of its fitted rows"
        raise InputError(f"a bank with {kind} cannot be updated; fit it again")
