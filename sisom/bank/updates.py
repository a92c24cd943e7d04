"""Updates of a bank, each equal to fitting it again.

The ratio of a point depends on all others, so statistics are taken again from the points that the bank holds;
the network is not. That needs every fitted row in the bank: a thinned bank refuses, because the rows it left
out are part of its statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Int
from torch import Tensor

from sisom.bank.bank import FeatureBank
from sisom.bank.enhance import enhance
from sisom.bank.fit import energy_of, statistics_of
from sisom.bank.ratios import BankPoints, average_and_deviation, leave_one_out
from sisom.checks import check_features, check_labels
from sisom.errors import EmptyInput, InputError, LabelError
from sisom.nearest.points import SortedPoints
from sisom.types import Features

__all__ = ["add_labeled", "merge_banks", "raise_classes", "remove_rows"]


def add_labeled(bank: FeatureBank, features: Features, labels: Int[Tensor, " n"]) -> FeatureBank:
    """Add labeled rows to a bank.

    Their `source` goes on where the bank's rows ended.

    Equal to fitting all rows together, but for layers that the old rows alone had pruned. The threshold is
    dropped, because the scores move.
    """
    _check_whole(bank)
    labels = labels.to(bank.points.device, torch.int64)
    features = features.to(bank.points.device)
    check_labels(labels, len(features), bank.num_classes)
    check_features(features)
    new = _Rows(
        enhance(features.saliency, features.layer_dims, bank.slopes),
        labels,
        torch.arange(bank.fitted, bank.fitted + len(features), device=labels.device),
        energy_of(features.logits),
    )
    return _refit(bank, _Rows.concat([_Rows.of(bank), new]), fitted=bank.fitted + len(features))


def remove_rows(bank: FeatureBank, rows: Int[Tensor, " r"]) -> FeatureBank:
    """Remove fitted rows, given by their `source`.

    Raises:
        InputError: for a row that the bank lacks.
        EmptyInput: where no point would be left.
    """
    _check_whole(bank)
    rows = rows.to(bank.source.device, torch.int64)
    strange = rows[~torch.isin(rows, bank.source)]
    if len(strange):
        raise InputError(f"the bank has no fitted row {int(strange[0])}")
    keep = ~torch.isin(bank.source, rows)
    if not bool(keep.any()):
        raise EmptyInput("removing these rows would leave no points")
    return _refit(bank, _Rows.of(bank).at(keep), fitted=bank.fitted)


def raise_classes(bank: FeatureBank, num_classes: int) -> FeatureBank:
    """Widen a bank to a taxonomy that has grown.

    Points of the new classes come with `add_labeled`.
    """
    if num_classes < bank.num_classes:
        raise LabelError(f"the bank knows {bank.num_classes} classes already, got {num_classes}")
    return replace(bank, num_classes=num_classes)


def merge_banks(banks: Sequence[FeatureBank]) -> FeatureBank:
    """Merge the banks of shards into the bank of all rows.

    Rows are numbered shard after shard.

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
    parts, fitted = [], 0
    for bank in banks:
        rows = _Rows.of(bank)
        parts.append(replace(rows, source=rows.source + fitted))
        fitted += bank.fitted
    return _refit(first, _Rows.concat(parts), fitted=fitted)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Fitted rows as a bank holds them; see `FeatureBank`."""

    points: Tensor
    labels: Tensor
    source: Tensor
    energies: Tensor

    @classmethod
    def of(cls, bank: FeatureBank) -> _Rows:
        return cls(bank.points, bank.labels, bank.source, bank.energies)

    @classmethod
    def concat(cls, parts: Sequence[_Rows]) -> _Rows:
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def at(self, index: Tensor) -> _Rows:
        return _Rows(self.points[index], self.labels[index], self.source[index], self.energies[index])


def _refit(bank: FeatureBank, rows: _Rows, *, fitted: int) -> FeatureBank:
    order = rows.source.argsort()  # by row, then by class: the order of a fit
    rows = rows.at(order[rows.labels[order].argsort(stable=True)])
    points = BankPoints.of(SortedPoints.of(rows.points, rows.labels), rows.source, bank.outer)
    measured, anchors = leave_one_out(points, bank.spec), points.anchors
    r_avg, r_std = statistics_of(measured, given=bank.spec.r_avg)
    energy_mean, energy_std = average_and_deviation(rows.energies)
    return replace(
        bank,
        points=rows.points,
        labels=rows.labels,
        source=rows.source,
        energies=rows.energies,
        anchor_distances=anchors.distances if anchors else rows.points.new_empty((0, 2)),
        anchor_sources=anchors.sources if anchors else rows.source.new_empty(0),
        r_avg=r_avg,
        r_std=r_std,
        energy_mean=energy_mean,
        energy_std=energy_std,
        counted=int(measured.valid.sum()),
        skipped=int((~measured.valid).sum()),
        fitted=fitted,
        threshold=None,
    )


def _check_whole(bank: FeatureBank) -> None:
    if bank.subset_method != "all" or bank.held_out:
        kind = "statistics from held-out rows" if bank.held_out else "a subset of its fitted rows"
        raise InputError(f"a bank with {kind} cannot be updated; fit it again")
