"""Fitting of banks to labeled features (sections 5, 6.3 and 7)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Unpack

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.bank.bank import FeatureBank
from sisom.bank.enhance import Slopes, columns_of, enhance, resolve_slopes
from sisom.bank.ratios import BankPoints, Ratios, average_and_deviation, ratios
from sisom.bank.spec import STUDIES, BankSpec, SpecChanges
from sisom.bank.subset import choose_rows
from sisom.checks import check_features, check_labels
from sisom.errors import TooFewLabels
from sisom.nearest.points import SortedPoints
from sisom.types import Features

__all__ = [
    "LEAST_SHARE",
    "average_ratio",
    "energy_of",
    "fit_bank",
    "layer_shares",
    "statistics_of",
]

# A layer that contributes less than this to the mean squared distance cannot be seen in float32 results.
LEAST_SHARE = 1e-12


def energy_of(logits: Float[Tensor, "n K"]) -> Float[Tensor, " n"]:
    """Compute `-logsumexp` of each row at temperature 1.

    Summed in float64, returned in float32.
    """
    return -torch.logsumexp(logits.detach().double(), dim=1).float()


def fit_bank(
    features: Features,
    labels: Int[Tensor, " n"],
    *,
    slopes: Slopes,
    spec: BankSpec = STUDIES,
    num_classes: int | None = None,
    held_out: tuple[Features, Int[Tensor, " v"]] | None = None,
    **changes: Unpack[SpecChanges],
) -> FeatureBank:
    """Fit a bank to labeled rows.

    Statistics run over all fitted rows, not only the kept ones, and a row never sees itself.

    Args:
        features: of the labeled rows.
        labels: their TRUE classes.
        slopes: a number, one number for each layer of the features, or the name of a preset.
        spec: how the bank is built.
        num_classes: classes of the taxonomy; the width of the logits when left out.
        held_out: labeled features for the statistics, instead of the fitted rows seen leave-one-out.
        **changes: fields of `spec` that differ, such as `subset=0.05`.

    Raises:
        EmptyInput, ShapeMismatch, NonFinite, LabelError, InputError: for rows, labels or a spec that cannot be used.
        SlopeError: for slopes that do not fit the layers.
        TooFewLabels: when there is one class only, or no leave-one-out ratio exists and `r_avg` is not given.
    """
    spec = replace(spec, **changes)
    classes = features.logits.shape[1] if num_classes is None else num_classes
    labels = labels.to(features.saliency.device, torch.int64)
    check_labels(labels, len(features), classes)
    check_features(features)
    kept, radius = choose_rows(
        features.penultimate,
        labels,
        size=spec.subset,
        method=spec.subset_method,
        seed=spec.seed,
        radius=spec.radius,
    )
    kept = kept[labels[kept].argsort(stable=True)]
    pairs = resolve_slopes(slopes, features.layers)
    fit = _Fit(features, labels, kept, spec, held_out)
    fitted, pruned = _pruned(fit, pairs) if spec.prune else (fit.run(pairs), {})
    mean, deviation = statistics_of(fitted.ratios, given=spec.r_avg)
    energies = energy_of(features.logits)
    energy_mean, energy_std = average_and_deviation(
        energies if held_out is None else energy_of(held_out[0].logits.to(energies.device))
    )
    dims = dict(features.layer_dims)
    anchors = fitted.points.anchors
    return FeatureBank(
        points=fitted.points.searched.points,
        labels=fitted.points.searched.labels,
        source=kept,
        energies=energies[kept],
        anchor_distances=anchors.distances if anchors else features.saliency.new_empty((0, 2)),
        anchor_sources=anchors.sources if anchors else kept.new_empty(0),
        num_classes=classes,
        slopes=fitted.slopes,
        layer_dims=tuple((name, dims[name]) for name, _ in fitted.slopes),
        r_avg=mean,
        r_std=deviation,
        energy_mean=energy_mean,
        energy_std=energy_std,
        outer=spec.outer,
        fusion=spec.fusion,
        rank=spec.rank,
        neighbors=spec.neighbors,
        pruned=tuple(pruned.items()),
        counted=int(fitted.ratios.valid.sum()),
        skipped=int((~fitted.ratios.valid).sum()),
        fitted=len(features),
        fixed_r_avg=spec.r_avg is not None,
        held_out=held_out is not None,
        subset_method=spec.subset_method if len(kept) < len(features) else "all",
        radius=radius,
    )


def average_ratio(
    features: Features,
    labels: Int[Tensor, " n"],
    slopes: Slopes,
    *,
    spec: BankSpec = STUDIES,
    **changes: Unpack[SpecChanges],
) -> float:
    """Average the leave-one-out ratio over labeled rows; lower is better.

    The objective of section 8. All rows are points, whatever subset `spec` asks for. Rows that are alone in their
    class have no inner distance and are left out.

    Args:
        features: of the labeled rows.
        labels: their TRUE classes.
        slopes: as `fit_bank` takes them.
        spec: its `outer`, `rank` and `neighbors` count.
        **changes: fields of `spec` that differ.

    Raises:
        TooFewLabels: when no row has a value; and what `fit_bank` raises for rows, labels and slopes.
    """
    spec = replace(spec, **changes)
    labels = labels.to(features.saliency.device, torch.int64)
    check_labels(labels, len(features), features.logits.shape[1])
    check_features(features)
    kept = labels.argsort(stable=True)
    fitted = _Fit(features, labels, kept, spec, None).run(resolve_slopes(slopes, features.layers))
    return statistics_of(fitted.ratios, given=None)[0]


def layer_shares(enhanced: Float[Tensor, "m d"], layer_dims: tuple[tuple[str, int], ...]) -> dict[str, float]:
    """Measure each layer's share of the mean squared distance between two points.

    That is its part of the total variance.
    """
    variance = enhanced.double().var(dim=0, correction=0)
    total = float(variance.sum())
    return {
        name: float(variance[columns].sum()) / total if total > 0 else 1.0
        for name, columns in columns_of(layer_dims).items()
    }


@dataclass(frozen=True, eq=False)
class _Fitted:
    """The result of a fit with certain slopes."""

    slopes: tuple[tuple[str, float], ...]
    points: BankPoints
    ratios: Ratios

    @property
    def zeros(self) -> int:
        """The number of rows that coincide with a neighbor."""
        return int(((self.ratios.inner == 0) | (self.ratios.outer == 0)).sum())


@dataclass(frozen=True, eq=False)
class _Fit:
    """A fit but for its slopes, which choose the layers."""

    features: Features
    labels: Tensor
    kept: Tensor
    spec: BankSpec
    held_out: tuple[Features, Tensor] | None

    def run(self, slopes: tuple[tuple[str, float], ...]) -> _Fitted:
        enhanced = enhance(self.features.saliency, self.features.layer_dims, slopes)
        searched = SortedPoints.of(enhanced[self.kept], self.labels[self.kept])
        points = BankPoints.of(searched, self.kept, self.spec.outer)
        if self.held_out is None:
            queries, classes = enhanced, self.labels
            exclude = torch.arange(len(enhanced), device=enhanced.device)
        else:
            features, classes = self.held_out[0].to(enhanced.device), self.held_out[1].to(enhanced.device)
            check_features(features)
            check_labels(classes, len(features), int(max(self.labels.max(), classes.max())) + 1)
            queries, exclude = enhance(features.saliency, features.layer_dims, slopes), None
        measured = ratios(queries, classes.long(), points, spec=self.spec, exclude=exclude)
        return _Fitted(slopes, points, measured)


def _pruned(fit: _Fit, slopes: tuple[tuple[str, float], ...]) -> tuple[_Fitted, dict[str, float]]:
    """Fit without the layers that cannot be seen; return their shares too."""
    dims = fit.features.layer_dims
    shares = layer_shares(enhance(fit.features.saliency[fit.kept], dims, slopes), dims)
    small = {name: share for name, share in shares.items() if share < LEAST_SHARE}
    lean = tuple((name, slope) for name, slope in slopes if name not in small)
    if not lean:
        return fit.run(slopes), {}
    fitted = fit.run(lean)
    if small and fitted.zeros:
        # Where the kept layers cannot tell two rows apart, the smallest share decides.
        full = fit.run(slopes)
        if full.zeros != fitted.zeros:
            return full, {}
    return fitted, small


def statistics_of(measured: Ratios, given: float | None) -> tuple[float, float]:
    """Compute `r_avg` and its deviation over the valid ratios.

    `given` replaces the mean.
    """
    values = measured.ratio[measured.valid]
    if len(values) == 0:
        if given is None:
            raise TooFewLabels(
                "no leave-one-out ratio exists: it needs two classes and at least one class with two points"
            )
        return given, 1.0
    mean, deviation = average_and_deviation(values)
    return (mean if given is None else given), deviation
