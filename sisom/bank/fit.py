"""Fitting: labeled features in, a frozen bank out (sections 5, 6.3 and 7)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.bank.bank import FeatureBank, Fusion, Outer
from sisom.bank.enhance import Slopes, columns_of, enhance, resolve_slopes
from sisom.bank.ratios import Anchors, Ratios, anchor_table, average_and_deviation, ratios
from sisom.bank.subset import choose_rows
from sisom.checks import check_features, check_labels
from sisom.errors import InputError, TooFewLabels
from sisom.nearest.gallery import Gallery
from sisom.types import Features

__all__ = [
    "LEAST_SHARE",
    "average_ratio",
    "energy_of",
    "fit_bank",
    "layer_shares",
    "leave_one_out",
    "statistics_of",
]

# A layer that contributes less than this to the mean squared distance cannot be seen in float32 results.
LEAST_SHARE = 1e-12


def energy_of(logits: Float[Tensor, "n K"]) -> Float[Tensor, " n"]:
    """`-logsumexp` of each row (temperature 1), summed in float64 and returned in float32."""
    return -torch.logsumexp(logits.detach().double(), dim=1).float()


def fit_bank(
    features: Features,
    labels: Int[Tensor, " n"],
    *,
    slopes: Slopes,
    subset: float | int = 1.0,
    subset_method: str = "random",
    radius: float | None = None,
    seed: int = 0,
    outer: Outer = "sample",
    fusion: Fusion = "zscore",
    rank: int = 1,
    neighbors: int = 1,
    r_avg: float | None = None,
    num_classes: int | None = None,
    held_out: tuple[Features, Int[Tensor, " v"]] | None = None,
    prune: bool = True,
) -> FeatureBank:
    """The bank of the labeled rows `features` with their TRUE `labels`.

    slopes          a number, one number for each layer of the features, or the name of a preset
    subset          share in (0, 1] or count of rows that become bank points
    subset_method   "random", "radius" or "kcenter", see `sisom.bank.subset`; `radius` and `seed` belong to it
    outer           "sample" as the paper writes it, "anchor" as its authors' code does
    fusion          "zscore" as the authors' code does, "raw" as the paper writes it
    rank            which inner neighbor counts: 1 the nearest, 2 the second nearest
    neighbors       how many neighbors the distances average, inside and outside; 1 is the paper
    r_avg           a fixed value instead of the leave-one-out mean
    num_classes     classes of the taxonomy; the width of the logits when left out
    held_out        labeled features for the statistics, instead of the fitted rows seen leave-one-out
    prune           leave out layers with a share of the squared distance below 1e-12; said in the bank

    Statistics run over all fitted rows, not only the kept ones, and a row never sees itself. Raises
    `EmptyInput`, `ShapeMismatch`, `NonFinite`, `LabelError`, `SlopeError`, and `TooFewLabels` when no
    leave-one-out ratio exists and `r_avg` is not given. A bank of one class is refused always.
    """
    classes = features.logits.shape[1] if num_classes is None else num_classes
    labels = labels.to(features.saliency.device, torch.int64)
    check_variant(outer, fusion, rank, neighbors, r_avg)
    check_labels(labels, len(features), classes)
    check_features(features)
    kept, used_radius = choose_rows(
        features.penultimate, labels, size=subset, method=subset_method, seed=seed, radius=radius
    )
    kept = kept[labels[kept].argsort(stable=True)]
    pairs = resolve_slopes(slopes, features.layers)
    job = _Fit(features, labels, kept, outer, rank, neighbors, held_out)
    shares = layer_shares(enhance(features.saliency[kept], features.layer_dims, pairs), features.layer_dims)
    small = {name: share for name, share in shares.items() if share < LEAST_SHARE} if prune else {}
    lean = tuple((name, slope) for name, slope in pairs if name not in small)
    fitted = job.run(lean or pairs)
    if small and lean and fitted.zeros:
        # Where the kept layers cannot tell two rows apart, the smallest share decides.
        full = job.run(pairs)
        if full.zeros != fitted.zeros:
            fitted, small = full, {}
    elif not lean:
        small = {}
    mean, deviation = statistics_of(fitted.found, given=r_avg)
    energies = energy_of(features.logits)
    energy_mean, energy_std = average_and_deviation(
        energies if held_out is None else energy_of(held_out[0].logits.to(energies.device))
    )
    dims = dict(features.layer_dims)
    anchors = fitted.anchors
    return FeatureBank(
        points=fitted.gallery.points,
        labels=fitted.gallery.labels,
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
        outer=outer,
        fusion=fusion,
        rank=rank,
        neighbors=neighbors,
        pruned=tuple(small.items()),
        counted=int(fitted.found.valid.sum()),
        skipped=int((~fitted.found.valid).sum()),
        fitted=len(features),
        fixed_r_avg=r_avg is not None,
        held_out=held_out is not None,
        subset_method=subset_method if len(kept) < len(features) else "all",
        radius=used_radius,
    )


def average_ratio(
    features: Features,
    labels: Int[Tensor, " n"],
    slopes: Slopes,
    *,
    outer: Outer = "sample",
    rank: int = 1,
    neighbors: int = 1,
) -> float:
    """The leave-one-out mean of the ratio over the labeled rows: the objective of section 8, lower is better.

    Rows that are alone in their class have no inner distance and are left out. Raises `TooFewLabels` when no
    row has a value.
    """
    labels = labels.to(features.saliency.device, torch.int64)
    check_variant(outer, "raw", rank, neighbors, None)
    check_labels(labels, len(features), features.logits.shape[1])
    check_features(features)
    kept = labels.argsort(stable=True)
    fitted = _Fit(features, labels, kept, outer, rank, neighbors, None).run(
        resolve_slopes(slopes, features.layers)
    )
    return statistics_of(fitted.found, given=None)[0]


def layer_shares(enhanced: Float[Tensor, "m d"], layer_dims: tuple[tuple[str, int], ...]) -> dict[str, float]:
    """Each layer's share of the mean squared distance between two points: its part of the total variance."""
    variance = enhanced.double().var(dim=0, correction=0)
    total = float(variance.sum())
    return {
        name: float(variance[columns].sum()) / total if total > 0 else 1.0
        for name, columns in columns_of(layer_dims).items()
    }


def leave_one_out(
    gallery: Gallery,
    source: Int[Tensor, " m"],
    *,
    outer: Outer,
    rank: int,
    neighbors: int,
) -> tuple[Ratios, Anchors | None]:
    """Ratios of the gallery's own points, each hidden from itself, and the anchor table where one is needed."""
    anchors = _anchors(gallery, source, outer)
    found = ratios(
        gallery.points,
        gallery.labels,
        gallery,
        source,
        outer=outer,
        rank=rank,
        count=neighbors,
        anchors=anchors,
        exclude=source,
    )
    return found, anchors


def check_variant(outer: str, fusion: str, rank: int, neighbors: int, r_avg: float | None) -> None:
    """Raise `InputError` for a variant that does not exist."""
    if outer not in ("sample", "anchor"):
        raise InputError(f'outer must be "sample" or "anchor", got {outer!r}')
    if fusion not in ("zscore", "raw"):
        raise InputError(f'fusion must be "zscore" or "raw", got {fusion!r}')
    if rank < 1 or neighbors < 1:
        raise InputError(f"rank and neighbors start at 1, got {rank} and {neighbors}")
    if r_avg is not None and (not math.isfinite(r_avg) or r_avg < 0):
        raise InputError(f"r_avg must be finite and not negative, got {r_avg}")


@dataclass(frozen=True, eq=False)
class _Fitted:
    slopes: tuple[tuple[str, float], ...]
    gallery: Gallery
    anchors: Anchors | None
    found: Ratios

    @property
    def zeros(self) -> int:
        """How many rows coincide with a neighbor."""
        return int(((self.found.inner == 0) | (self.found.outer == 0)).sum())


@dataclass(frozen=True, eq=False)
class _Fit:
    """One fit, but for the slopes: run with fewer layers it gives the pruned bank."""

    features: Features
    labels: Tensor
    kept: Tensor
    outer: Outer
    rank: int
    neighbors: int
    held_out: tuple[Features, Tensor] | None

    def run(self, slopes: tuple[tuple[str, float], ...]) -> _Fitted:
        enhanced = enhance(self.features.saliency, self.features.layer_dims, slopes)
        gallery = Gallery.of(enhanced[self.kept], self.labels[self.kept])
        anchors = _anchors(gallery, self.kept, self.outer)
        if self.held_out is None:
            queries, classes = enhanced, self.labels
            exclude = torch.arange(len(enhanced), device=enhanced.device)
        else:
            features, classes = self.held_out[0].to(enhanced.device), self.held_out[1].to(enhanced.device)
            check_features(features)
            check_labels(classes, len(features), int(max(self.labels.max(), classes.max())) + 1)
            queries, exclude = enhance(features.saliency, features.layer_dims, slopes), None
        found = ratios(
            queries,
            classes.long(),
            gallery,
            self.kept,
            outer=self.outer,
            rank=self.rank,
            count=self.neighbors,
            anchors=anchors,
            exclude=exclude,
        )
        return _Fitted(slopes, gallery, anchors, found)


def _anchors(gallery: Gallery, source: Tensor, outer: Outer) -> Anchors | None:
    if int(gallery.labels[0]) == int(gallery.labels[-1]):
        raise TooFewLabels("a bank needs points of two classes: with one there is no outer distance")
    return anchor_table(gallery, source) if outer == "anchor" else None


def statistics_of(found: Ratios, given: float | None) -> tuple[float, float]:
    """r_avg and its deviation over the valid ratios; `given` replaces the mean."""
    values = found.ratio[found.valid]
    if len(values) == 0:
        if given is None:
            raise TooFewLabels(
                "no leave-one-out ratio exists: it needs two classes and at least one class with two points"
            )
        return given, 1.0
    mean, deviation = average_and_deviation(values)
    return (mean if given is None else given), deviation
