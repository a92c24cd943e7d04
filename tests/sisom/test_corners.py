"""Every corner has an answer or an error with a name."""

import pytest
import torch

from sisom import Features, average_ratio, errors, fit_bank, score
from sisom.bank.ratios import CEILING

ZERO = torch.zeros(1, dtype=torch.int64)


def flat(rows, logits):
    saliency = torch.tensor(rows, dtype=torch.float32)
    return Features(
        saliency, (("a", saliency.shape[1]),), saliency, torch.tensor(logits, dtype=torch.float32)
    )


def two_classes():
    fit = flat([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [3.0, 4.0]], [[0.0, 0.0, 0.0]] * 4)
    return fit, torch.tensor([0, 0, 1, 1])


def finite(scores):
    return all(
        bool(torch.isfinite(value).all())
        for value in (scores.inner, scores.outer, scores.ratio, scores.sisome)
    )


def test_a_class_without_bank_points_is_as_strange_as_can_be():
    fit, labels = two_classes()
    bank = fit_bank(fit, labels, slopes=0.1)
    found = score(bank, flat([[0.5, 0.0], [0.5, 0.0]], [[0.0, 0.0, 9.0], [9.0, 0.0, 0.0]]))
    assert found.predicted.tolist() == [2, 0]
    assert found.ratio.tolist()[0] == CEILING and found.ratio.tolist()[1] < 1
    assert finite(found)


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


def test_duplicates_have_ratio_zero_under_leave_one_out():
    fit = flat([[0.0], [0.0], [3.0], [4.0]], [[0.0, 0.0]] * 4)
    bank = fit_bank(fit, torch.tensor([0, 0, 1, 1]), slopes=1e-3)
    assert bank.counted == 4
    assert bank.r_avg == pytest.approx((0 + 0 + 1 / 3 + 1 / 4) / 4, rel=1e-4)


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


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("field", ["saliency", "penultimate", "logits"])
def test_non_finite_rows_are_named(bad, field):
    fit, labels = two_classes()
    bank = fit_bank(fit, labels, slopes=0.1)
    parts = {name: getattr(fit, name).clone() for name in ("saliency", "penultimate", "logits")}
    parts[field][1, 0] = bad
    broken = Features(parts["saliency"], fit.layer_dims, parts["penultimate"], parts["logits"])
    for call in (lambda: score(bank, broken), lambda: fit_bank(broken, labels, slopes=0.1)):
        with pytest.raises(errors.NonFinite, match="rows 1") as caught:
            call()
        assert caught.value.rows == (1,)


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
