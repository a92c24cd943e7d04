"""Variants of SISOM against slow loops and formulas by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sisom
from pipeline.ask import far_filter as rounds
from pipeline.studies.ablation.config import Search, Variant
from pipeline.studies.ablation.variants import fit as fit_variant
from pipeline.studies.ablation.variants import prepare, slopes_of
from pipeline.studies.active import query
from sisom.verdicts import far_filter

pytestmark = pytest.mark.usefixtures("one_thread")


# ------------------------------------------------------------------------------------------------- open sets


def test_a_study_asks_the_filter_of_rounds() -> None:
    """Where far images do not stand apart, the filter of a study passes the whole pool as a round's does."""
    far, rest = np.asarray([1.0] * 5), np.asarray([5.0] * 5)
    assert far_filter(far, rest) == (None, 0.0)
    assert query.far_filter is rounds.far_filter is far_filter


# --------------------------------------------------------------------------------------------------- variants


def features(n: int, seed: int, shift: float = 0.0) -> sisom.Features:
    g = torch.Generator().manual_seed(seed)
    classes = torch.arange(n) % 3
    centers = torch.nn.functional.one_hot(classes, 8).float() * 4
    penultimate = (centers + torch.randn(n, 8, generator=g) + shift).abs()
    saliency = torch.cat([penultimate * 0.1, torch.randn(n, 4, generator=g) * 1e-3], dim=1)
    return sisom.Features(saliency, (("avgpool", 8), ("layer3", 4)), penultimate, penultimate[:, :3] * 2)


LABELS = torch.arange(60) % 3


def test_the_plain_variants_are_the_librarys_scores() -> None:
    known, others = features(60, 0), features(20, 1)
    bank = sisom.fit_bank(known, LABELS, slopes=2.0, outer="anchor", neighbors=3)
    scores = sisom.score(bank, others)
    for partner, wanted in (("none", scores.sisom), ("energy", scores.sisome)):
        variant = Variant(slopes=2.0, outer="anchor", neighbors=3, partner=partner)  # type: ignore[arg-type]
        assert torch.equal(fit_variant(variant, known, LABELS, search=Search()).score(others), wanted)


def test_the_neighbor_as_a_partner_by_a_slow_loop() -> None:
    known, others = features(60, 0), features(20, 1, shift=2.0)
    fitted = fit_variant(Variant(slopes=2.0, partner="knn"), known, LABELS, search=Search())
    unit = torch.nn.functional.normalize(known.penultimate.double(), dim=1)
    own = torch.cdist(unit, unit)
    own.fill_diagonal_(torch.inf)
    kth = own.sort(dim=1).values[:, 49]
    assert fitted.partner is not None
    assert fitted.partner.mean == pytest.approx(float(kth.mean()), rel=1e-5)
    away = torch.cdist(torch.nn.functional.normalize(others.penultimate.double(), dim=1), unit)
    distance = away.sort(dim=1).values[:, 49]
    ratio = (sisom.score(fitted.bank, others).ratio.double() - fitted.bank.r_avg) / fitted.bank.r_std
    on_ratio = max(1 - fitted.bank.r_avg, 0)
    wanted = min(fitted.bank.r_avg, 1) * (distance - kth.mean()) / kth.std() + on_ratio * ratio
    assert torch.allclose(fitted.score(others).double(), wanted, atol=1e-4)


def test_both_partners_are_the_catalogues_detector_and_by_hand_its_formula() -> None:
    known, others = features(60, 0), features(20, 1, shift=2.0)
    detector = sisom.build_detector("sisom-fused", slopes=2.0, k=7, outer="sample")
    state = detector.fit(known, LABELS)
    scores, bank = sisom.score(state.bank, others), state.bank
    unit = torch.nn.functional.normalize(known.penultimate.double(), dim=1)
    own = torch.cdist(unit, unit)
    own.fill_diagonal_(torch.inf)
    kth = own.sort(dim=1).values[:, 6]
    away = torch.cdist(torch.nn.functional.normalize(others.penultimate.double(), dim=1), unit)
    near = (away.sort(dim=1).values[:, 6] - kth.mean()) / kth.std()
    energy = (-torch.logsumexp(others.logits.double(), 1) - bank.energy_mean) / bank.energy_std
    ratio = (scores.ratio.double() - bank.r_avg) / bank.r_std
    wanted = min(bank.r_avg, 1) * (near + energy) / 2 + max(1 - bank.r_avg, 0) * ratio
    assert torch.allclose(detector.score(state, others).double(), wanted, atol=1e-4)

    both = fit_variant(Variant(slopes=2.0, outer="anchor", partner="both"), known, LABELS, search=Search())
    plain = sisom.build_detector("sisom-fused", slopes=2.0)
    assert torch.equal(both.score(others), plain.score(plain.fit(known, LABELS), others))


def test_parts_of_the_space() -> None:
    known = features(60, 0)
    one = prepare(known, Variant(layers=("layer3",)))
    assert one.layers == ("layer3",)
    assert torch.equal(one.saliency, known.saliency[:, 8:])
    unit = prepare(known, Variant(normalise="rows")).saliency
    assert torch.allclose(unit[:, :8].norm(dim=1), torch.ones(60), atol=1e-5)
    assert torch.allclose(unit[:, 8:].norm(dim=1), torch.ones(60), atol=1e-5)
    plain = prepare(known, Variant(space="penultimate", slopes=1.0))
    assert torch.equal(plain.saliency, known.penultimate)
    typical = slopes_of(Variant(slopes="typical"), known, LABELS, search=Search())
    assert isinstance(typical, dict)
    assert float((known.saliency[:, 8:] * typical["layer3"]).abs().median()) == pytest.approx(1.0, rel=0.05)
    searched = slopes_of(
        Variant(slopes="searched"), known, LABELS, search=Search(rows=60, candidates=(0.1, 1.0))
    )
    assert isinstance(searched, dict)
    best = sisom.average_ratio(known, LABELS, searched)
    assert best <= sisom.average_ratio(known, LABELS, typical) + 1e-6
