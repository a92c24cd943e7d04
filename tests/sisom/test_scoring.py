"""Scoring in every corner: an answer or an error with a name."""

from dataclasses import replace

import pytest
import torch

from sisom import Features, errors, fit_bank, score
from sisom.bank.ratios import CEILING
from sisom.scoring import fuse
from tests.support.corners import finite, flat, two_classes

ZERO = torch.zeros(1, dtype=torch.int64)


def test_a_class_without_bank_points_is_as_strange_as_can_be():
    fit, labels = two_classes()
    bank = fit_bank(fit, labels, slopes=0.1)
    found = score(bank, flat([[0.5, 0.0], [0.5, 0.0]], [[0.0, 0.0, 9.0], [9.0, 0.0, 0.0]]))
    assert found.predicted.tolist() == [2, 0]
    assert found.ratio.tolist()[0] == CEILING and found.ratio.tolist()[1] < 1
    assert finite(found)


@pytest.mark.parametrize("outer", ["sample", "anchor"])
def test_collisions(outer):
    fit = flat([[0.0], [1.0], [1.0], [5.0], [5.0]], [[0.0, 0.0]] * 5)
    labels = torch.tensor([0, 0, 1, 1, 1])
    bank = fit_bank(fit, labels, slopes=0.1, outer=outer, prune=False)
    found = score(bank, flat([[1.0], [1.0], [5.0], [5.0]], [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]))
    assert found.ratio[0] == 1.0 and found.ratio[1] == 1.0  # equal to points of both classes
    assert found.ratio[2] == 0.0  # equal to a point of its class alone
    if outer == "sample":
        assert found.ratio[3] == CEILING  # equal to a point of the other class alone
    assert finite(found)


def test_all_zero_features():
    fit = flat([[0.0, 0.0]] * 6, [[0.0, 0.0]] * 6)
    bank = fit_bank(fit, torch.tensor([0, 1] * 3), slopes=1.0)
    found = score(bank, fit)
    assert bank.r_avg == 1.0 and found.ratio.tolist() == [1.0] * 6 and finite(found)


def test_equal_ratios_do_not_divide_by_zero():
    fit = flat([[0.0], [1.0], [10.0], [11.0]], [[0.0, 0.0]] * 4)
    bank = fit_bank(fit, torch.tensor([0, 0, 1, 1]), slopes=0.0)
    assert bank.r_std == 1.0 and bank.energy_std == 1.0
    assert finite(score(bank, fit))


def test_extreme_saliencies_saturate():
    fit = flat([[1e30], [-1e30], [3e38], [0.0]], [[0.0, 0.0]] * 4)
    bank = fit_bank(fit, torch.tensor([0, 0, 1, 1]), slopes=1e6)
    assert bank.points.flatten().tolist() == [0.5, -0.5, 0.5, 0.0]
    assert finite(score(bank, fit))


def test_a_single_query_and_no_query():
    fit, labels = two_classes()
    bank = fit_bank(fit, labels, slopes=0.1)
    assert len(score(bank, fit.select([2]))) == 1
    assert len(score(bank, fit.select([]))) == 0
    assert torch.equal(score(bank, fit.select([2])).sisome, score(bank, fit).sisome[2:3])


def test_features_of_other_layers_or_widths():
    fit, labels = two_classes()
    bank = fit_bank(fit, labels, slopes=1.0)
    other = Features(fit.saliency, (("b", 2),), fit.penultimate, fit.logits)
    with pytest.raises(errors.LayerError, match="lack layer 'a'"):
        score(bank, other)
    wide = Features(torch.zeros(4, 3), (("a", 3),), fit.penultimate, fit.logits)
    with pytest.raises(errors.ShapeMismatch, match="columns"):
        score(bank, wide)
    with pytest.raises(errors.ShapeMismatch, match="exclude"):
        score(bank, fit, exclude=ZERO)
    with pytest.raises(errors.ShapeMismatch, match="layer_dims"):
        Features(fit.saliency, (("a", 3),), fit.penultimate, fit.logits)
    with pytest.raises((errors.ShapeMismatch, TypeError)):  # the shape checks of these tests come first
        Features(fit.saliency, (("a", 2),), fit.penultimate[:2], fit.logits)


def test_scoring_changes_no_input(make):
    fit, labels = make(30)
    copies = {name: getattr(fit, name).clone() for name in ("saliency", "penultimate", "logits")}
    bank = fit_bank(fit, labels, slopes=1.0)
    points = bank.points.clone()
    score(bank, fit)
    assert torch.equal(bank.points, points)
    assert all(torch.equal(getattr(fit, name), value) for name, value in copies.items())


@pytest.mark.parametrize(("fusion", "expected"), [("zscore", 1.819887), ("raw", -2.765383)])
def test_fused_score(hand_bank, fusion, expected):
    bank = replace(hand_bank, fusion=fusion, r_avg=0.931940, r_std=0.749903, energy_mean=-5.0, energy_std=1.0)
    fused = fuse(bank, torch.tensor([-3.0]), torch.tensor([0.447214]))
    assert fused.item() == pytest.approx(expected, abs=2e-5)
