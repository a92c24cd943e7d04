"""Fitting: labeled features in, a frozen bank out (sections 5, 6.3 and 7)."""

import math

import torch
from jaxtyping import Int
from torch import Tensor

from sisom.checks import check_features, check_labels
from sisom.enhance import Slopes, enhance, resolve_slopes
from sisom.errors import InputError, TooFewLabels
from sisom.gallery import Gallery
from sisom.ratios import Anchors, Ratios, anchor_table, average_and_deviation, ratios
from sisom.state import FeatureBank, Fusion, Outer
from sisom.subset import subset as choose
from sisom.types import Features

__all__ = ["average_ratio", "energy_of", "fit_bank"]


def energy_of(logits: Tensor) -> Tensor:
    """`-logsumexp` of each row (temperature 1), summed in float64 and returned in float32."""
    return -torch.logsumexp(logits.double(), dim=1).float()


def fit_bank(
    features: Features,
    labels: Int[Tensor, " n"],
    *,
    slopes: Slopes,
    subset: float | int = 1.0,
    subset_method: str = "random",
    seed: int = 0,
    outer: Outer = "sample",
    fusion: Fusion = "zscore",
    rank: int = 1,
    neighbors: int = 1,
    r_avg: float | None = None,
    num_classes: int | None = None,
) -> FeatureBank:
    """The bank of the labeled rows `features` with their TRUE `labels`.

    slopes          a number, or one number for each layer of the features
    subset          share in (0, 1] or count of rows that become bank points; statistics run over all rows
    outer           "sample" as the paper writes it, "anchor" as its authors' code does
    fusion          "zscore" as the authors' code does, "raw" as the paper writes it
    rank            which inner neighbor counts: 1 the nearest, 2 the second nearest
    neighbors       how many neighbors the distances average, inside and outside; 1 is the paper
    r_avg           a fixed value instead of the leave-one-out mean
    num_classes     classes of the taxonomy; the width of the logits when left out

    Statistics are leave-one-out: a row never sees itself, whether or not it is a bank point. Raises
    `EmptyInput`, `ShapeMismatch`, `NonFinite`, `LabelError`, `SlopeError`, and `TooFewLabels` when no
    leave-one-out ratio exists and `r_avg` is not given. A bank of one class is refused always.
    """
    classes = features.logits.shape[1] if num_classes is None else num_classes
    labels = labels.to(features.saliency.device, torch.int64)
    _check_variant(outer, fusion, rank, neighbors, r_avg)
    check_labels(labels, len(features), classes)
    check_features(features)
    pairs = resolve_slopes(slopes, features.layers)
    kept = choose(features.penultimate, labels, size=subset, method=subset_method, seed=seed)
    kept = kept[labels[kept].argsort(stable=True)]
    enhanced = enhance(features.saliency, features.layer_dims, pairs)
    points, point_labels = enhanced[kept], labels[kept]
    gallery = Gallery.of(points, point_labels)
    anchors = _anchors(gallery, kept, outer)
    found = _leave_one_out(enhanced, labels, gallery, kept, outer, rank, neighbors, anchors)
    mean, deviation = _statistics(found, given=r_avg)
    energy = energy_of(features.logits)
    energy_mean, energy_std = average_and_deviation(energy)
    return FeatureBank(
        points=points,
        labels=point_labels,
        source=kept,
        energies=energy[kept],
        anchor_distances=anchors.distances if anchors else points.new_empty((0, 2)),
        anchor_sources=anchors.sources if anchors else kept.new_empty(0),
        num_classes=classes,
        slopes=pairs,
        layer_dims=features.layer_dims,
        r_avg=mean,
        r_std=deviation,
        energy_mean=energy_mean,
        energy_std=energy_std,
        outer=outer,
        fusion=fusion,
        rank=rank,
        neighbors=neighbors,
        counted=int(found.valid.sum()),
        skipped=int((~found.valid).sum()),
        fitted=len(features),
        subset_method=subset_method if len(kept) < len(features) else "all",
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
    """The leave-one-out mean of the ratio over the labeled rows: the objective of the slope search (section
    8).

    Lower means better separated classes. Rows that are alone in their class have no inner distance and are
    left out. Raises `TooFewLabels` when no row has a value.
    """
    labels = labels.to(features.saliency.device, torch.int64)
    _check_variant(outer, "raw", rank, neighbors, None)
    check_labels(labels, len(features), features.logits.shape[1])
    check_features(features)
    points = enhance(features.saliency, features.layer_dims, resolve_slopes(slopes, features.layers))
    order = labels.argsort(stable=True)
    points, labels = points[order], labels[order]
    rows = torch.arange(len(points), device=points.device)
    gallery = Gallery.of(points, labels)
    anchors = _anchors(gallery, rows, outer)
    found = _leave_one_out(points, labels, gallery, rows, outer, rank, neighbors, anchors)
    return _statistics(found, given=None)[0]


def _anchors(gallery: Gallery, source: Tensor, outer: Outer) -> Anchors | None:
    if int(gallery.labels[0]) == int(gallery.labels[-1]):
        raise TooFewLabels(
            "the bank needs points of at least two classes: with one there is no outer distance"
        )
    return anchor_table(gallery, source) if outer == "anchor" else None


def _leave_one_out(
    queries: Tensor,
    classes: Tensor,
    gallery: Gallery,
    source: Tensor,
    outer: Outer,
    rank: int,
    count: int,
    anchors: Anchors | None,
) -> Ratios:
    """Ratios of fitted rows under their true classes; row i of the queries is row i of the fitted set."""
    return ratios(
        queries,
        classes,
        gallery,
        source,
        outer=outer,
        rank=rank,
        count=count,
        anchors=anchors,
        exclude=torch.arange(len(queries), device=queries.device),
    )


def _statistics(found: Ratios, given: float | None) -> tuple[float, float]:
    values = found.ratio[found.valid]
    if len(values) == 0:
        if given is None:
            raise TooFewLabels(
                "no leave-one-out ratio exists: it needs two classes and at least one class with two points"
            )
        return given, 1.0
    mean, deviation = average_and_deviation(values)
    return (mean if given is None else given), deviation


def _check_variant(outer: str, fusion: str, rank: int, neighbors: int, r_avg: float | None) -> None:
    if outer not in ("sample", "anchor"):
        raise InputError(f'outer must be "sample" or "anchor", got {outer!r}')
    if fusion not in ("zscore", "raw"):
        raise InputError(f'fusion must be "zscore" or "raw", got {fusion!r}')
    if rank < 1 or neighbors < 1:
        raise InputError(f"rank and neighbors start at 1, got {rank} and {neighbors}")
    if r_avg is not None and (not math.isfinite(r_avg) or r_avg < 0):
        raise InputError(f"r_avg must be finite and not negative, got {r_avg}")
