"""Variants of SISOM, published and others, over the same features.

`fit` builds a variant, `FittedVariant.score` scores with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

import sisom
from pipeline.studies.ablation.config import Search, Variant
from sisom.bank.enhance import columns_of
from sisom.bank.subset import choose_rows
from sisom.detectors.fused import FarNeighbor, energy_zscore, fuse
from sisom.rowwise import unit

K = 50  # of the partner's neighbors


@dataclass(frozen=True)
class FittedVariant:
    """A variant fitted on labeled images: bank and state of its partner."""

    variant: Variant
    bank: sisom.FeatureBank
    partner: FarNeighbor | None = None

    def score(self, features: sisom.Features) -> Tensor:
        """Score images, (n,); higher is stranger."""
        scores = sisom.score(self.bank, prepare(features, self.variant))
        if self.variant.partner == "none":
            return scores.sisom
        if self.partner is None:
            return scores.sisome
        partner = self.partner.zscore(features)
        if self.variant.partner == "both":
            partner = (partner + energy_zscore(self.bank, scores)) / 2
        return fuse(self.bank, scores, partner)


def fit(variant: Variant, features: sisom.Features, labels: Tensor, *, search: Search) -> FittedVariant:
    """Build the variant from labeled features."""
    prepared = prepare(features, variant)
    bank = sisom.fit_bank(
        prepared,
        labels,
        slopes=slopes_of(variant, prepared, labels, search=search),
        spec=variant.spec,
    )
    if variant.partner not in ("knn", "both"):
        return FittedVariant(variant, bank)
    return FittedVariant(variant, bank, FarNeighbor.of(features, labels, source=bank.source, k=K))


def prepare(features: sisom.Features, variant: Variant) -> sisom.Features:
    """Return the features that a variant measures distances in.

    They are the saliencies of the wanted layers, or the penultimate layer, scaled as `normalise` says.
    """
    if variant.space == "penultimate":
        found = features.penultimate
        dims: tuple[tuple[str, int], ...] = (("penultimate", found.shape[1]),)
    else:
        columns = columns_of(features.layer_dims)
        wanted = variant.layers or features.layers
        found = torch.cat([features.saliency[:, columns[name]] for name in wanted], dim=1)
        widths = dict(features.layer_dims)
        dims = tuple((name, widths[name]) for name in wanted)
    if variant.normalise == "rows":
        found = torch.cat([unit(found[:, part]) for part in columns_of(dims).values()], dim=1)
    return sisom.Features(found, dims, features.penultimate, features.logits)


def slopes_of(
    variant: Variant, features: sisom.Features, labels: Tensor, *, search: Search
) -> str | float | Mapping[str, float]:
    """Return a variant's slopes for prepared features.

    `typical` and `searched` are computed; `search` holds the options of the latter.
    """
    if variant.slopes == "typical":
        return sisom.reduced_slopes(features, 0.0)
    if variant.slopes != "searched":
        return variant.slopes
    rows, _ = choose_rows(
        features.penultimate, labels, size=min(search.rows, len(features)), method="random", seed=0
    )
    typical = sisom.reduced_slopes(features, 0.0)
    candidates = {layer: [slope * factor for factor in search.candidates] for layer, slope in typical.items()}
    return sisom.search_slopes(features.select(rows), labels[rows], candidates)
