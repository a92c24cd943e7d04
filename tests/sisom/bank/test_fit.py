"""Fitting a bank: labels, slopes and options that do not fit, and weak layers."""

import pytest
import torch

from sisom import Features, average_ratio, errors, fit_bank, score
from sisom.bank.fit import energy_of
from tests.support.corners import finite, flat, two_classes


def test_one_class_is_refused():
    fit, _ = two_classes()
    with pytest.raises(errors.TooFewLabels, match="two classes"):
        fit_bank(fit, torch.zeros(4, dtype=torch.int64), slopes=1.0, r_avg=0.5)


def test_one_point_a_class_has_no_leave_one_out_value():
    fit, labels = two_classes()
    some = torch.tensor([0, 2])
    with pytest.raises(errors.TooFewLabels, match="leave-one-out"):
        fit_bank(fit.select(some), labels[some], slopes=1.0)
    with pytest.raises(errors.TooFewLabels):
        average_ratio(fit.select(some), labels[some], 1.0)
    bank = fit_bank(fit.select(some), labels[some], slopes=1.0, r_avg=0.3)
    assert (bank.r_avg, bank.r_std, bank.counted, bank.skipped) == (0.3, 1.0, 0, 2)
    assert finite(score(bank, fit))


def test_a_lonely_point_is_left_out_of_the_mean():
    fit, labels = two_classes()
    three = torch.tensor([0, 1, 2])
    bank = fit_bank(fit.select(three), labels[three], slopes=1e-3)
    assert (bank.counted, bank.skipped) == (2, 1)
    assert bank.r_avg == pytest.approx((1 / 3 + 1 / 2) / 2, rel=1e-4)


def test_duplicates_have_ratio_zero_under_leave_one_out():
    fit = flat([[0.0], [0.0], [3.0], [4.0]], [[0.0, 0.0]] * 4)
    bank = fit_bank(fit, torch.tensor([0, 0, 1, 1]), slopes=1e-3)
    assert bank.counted == 4
    assert bank.r_avg == pytest.approx((0 + 0 + 1 / 3 + 1 / 4) / 4, rel=1e-4)


def test_labels_that_do_not_fit():
    fit, labels = two_classes()
    with pytest.raises(errors.LabelError, match="found 3"):
        fit_bank(fit, labels + 2, slopes=1.0)
    with pytest.raises(errors.LabelError, match="found -1"):
        fit_bank(fit, labels - 1, slopes=1.0)
    with pytest.raises(errors.ShapeMismatch):
        fit_bank(fit, labels[:3], slopes=1.0)
    with pytest.raises(errors.EmptyInput):
        fit_bank(fit.select([]), labels[:0], slopes=1.0)


@pytest.mark.parametrize(
    ("slopes", "message"),
    [
        ({"a": 1.0, "aa": 2.0}, "unknown layer 'aa'; the nearest layer is 'a'"),
        ({}, "no slope given for layer 'a'"),
        (-1.0, "not negative"),
        (float("nan"), "finite"),
    ],
)
def test_slopes_that_do_not_fit(slopes, message):
    fit, labels = two_classes()
    with pytest.raises(errors.SlopeError, match=message):
        fit_bank(fit, labels, slopes=slopes)


@pytest.mark.parametrize(
    "options",
    [{"outer": "middle"}, {"fusion": "sum"}, {"rank": 0}, {"neighbors": 0}, {"r_avg": -1.0}, {"subset": 0.0},
     {"subset": 1.5}, {"subset": 0}, {"subset": 0.5, "radius": 0.0}],
)  # fmt: skip
def test_options_that_do_not_exist(options):
    """The shape checks of these tests refuse some of these before the library does."""
    fit, labels = two_classes()
    with pytest.raises((errors.InputError, TypeError)):
        fit_bank(fit, labels, slopes=1.0, **options)


def test_a_layer_too_weak_to_matter_is_pruned(make):
    fit, labels = make(40)
    bank = fit_bank(fit, labels, slopes={"a": 1e-9, "b": 1.0})
    assert bank.layers == ("b",) and [name for name, _ in bank.pruned] == ["a"]
    assert bank.pruned[0][1] < 1e-12 and bank.points.shape == (40, 5)
    full = fit_bank(fit, labels, slopes={"a": 1e-9, "b": 1.0}, prune=False)
    assert full.layers == ("a", "b") and full.pruned == ()
    pool, _ = make(20, seed=1)
    assert torch.allclose(score(bank, pool).ratio, score(full, pool).ratio, rtol=1e-6)
    lean = Features(pool.saliency[:, 3:], (("b", 5),), pool.penultimate, pool.logits)
    assert torch.equal(score(bank, lean).sisome, score(bank, pool).sisome)


def test_a_weak_layer_stays_where_it_alone_tells_rows_apart(make):
    fit, labels = make(40)
    saliency = fit.saliency.clone()
    saliency[:, 3:] = saliency[:, 3:].sign() * 1e9  # saturated: many rows equal in layer b
    fit = Features(saliency, fit.layer_dims, fit.penultimate, fit.logits)
    bank = fit_bank(fit, labels, slopes={"a": 1e-7, "b": 1.0})
    assert bank.layers == ("a", "b") and bank.pruned == ()


def test_held_out_statistics(make):
    fit, labels = make(40)
    other, truth = make(24, seed=3)
    bank = fit_bank(fit, labels, slopes=1.0, held_out=(other, truth))
    right = Features(
        other.saliency, other.layer_dims, other.penultimate, 9.0 * torch.nn.functional.one_hot(truth, 4)
    )
    assert bank.r_avg == pytest.approx(float(score(bank, right).ratio.double().mean()), rel=1e-6)
    assert bank.energy_mean == pytest.approx(float(score(bank, other).energy.double().mean()), rel=1e-6)
    assert bank.held_out and bank.counted == 24


def test_energy_of_uniform_logits():
    assert energy_of(torch.zeros(1, 4)).item() == pytest.approx(-1.3862944, abs=1e-6)
