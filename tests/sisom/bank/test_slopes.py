"""The slope sweep against a bank rebuilt for every combination."""

import itertools

import pytest
import torch

from sisom import Features, average_ratio, errors, fit_bank, reduced_slopes, search_slopes, sweep_slopes

DIMS = (("w", 4), ("x", 3), ("y", 6), ("z", 5))
GRID = {"w": [0.1, 1.0, 20.0], "x": [0.5, 3.0], "y": [0.01, 1.0, 4.0], "z": [1.0, 8.0]}


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_rebuild_for_every_combination(make, seed):
    fit, labels = make(70, classes=5, dims=DIMS, seed=seed)
    found = sweep_slopes(fit, labels, GRID)
    rebuilt = {
        c: average_ratio(fit, labels, dict(zip(fit.layers, c, strict=True)))
        for c in itertools.product(*(GRID[name] for name in fit.layers))
    }
    assert found.table == pytest.approx(rebuilt, rel=1e-4)
    best = min(rebuilt, key=rebuilt.__getitem__)
    assert tuple(found.slopes.values()) == best
    assert found.r_avg == pytest.approx(rebuilt[best], rel=1e-5)
    assert search_slopes(fit, labels, GRID) == found.slopes
    assert fit_bank(fit, labels, slopes=found.slopes, prune=False).r_avg == pytest.approx(
        found.r_avg, rel=1e-5
    )


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_fewer_layers(make, layers):
    dims = DIMS[:layers]
    fit, labels = make(40, dims=dims)
    grid = {name: GRID[name] for name, _ in dims}
    found = sweep_slopes(fit, labels, grid)
    assert found.r_avg == pytest.approx(average_ratio(fit, labels, found.slopes), rel=1e-5)
    assert found.r_avg <= min(found.table.values()) * (1 + 1e-4)


def test_unequal_classes_and_lonely_points(make):
    fit, labels = make(50, classes=4, dims=DIMS)
    labels = torch.where(labels == 3, 0, labels)
    labels[0] = 3
    found = sweep_slopes(fit, labels, GRID)
    assert found.r_avg == pytest.approx(average_ratio(fit, labels, found.slopes), rel=1e-5)


def test_degenerate_candidates_are_refused_with_the_reason(make):
    fit, labels = make(40)
    found = sweep_slopes(fit, labels, {"a": [0.0, 1.0, 1e12], "b": [0.0, 1e12]})
    reasons = found.refused
    assert reasons[(0.0, 0.0)] == "all distances are zero"
    assert "saturated" in reasons[(1e12, 1e12)] and "saturated" in reasons[(0.0, 1e12)]
    assert (1.0, 0.0) in found.table
    with pytest.raises(errors.DegenerateSlopes, match="zero") as caught:
        sweep_slopes(fit, labels, {"a": [0.0], "b": [0.0]})
    assert caught.value.reasons == ("all distances are zero",)


def test_ties_go_to_the_smaller_slopes():
    saliency = torch.tensor([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0], [7.0, 0.0]])
    fit = Features(saliency, (("a", 1), ("b", 1)), saliency, torch.zeros(4, 2))
    found = search_slopes(fit, torch.tensor([0, 0, 1, 1]), {"a": [0.1], "b": [5.0, 1.0, 3.0]})
    assert found == {"a": 0.1, "b": 1.0}


def test_too_few_labels(make):
    fit, labels = make(4)
    with pytest.raises(errors.TooFewLabels):
        sweep_slopes(fit, labels, {"a": [1.0], "b": [1.0]})
    with pytest.raises(errors.TooFewLabels):
        sweep_slopes(fit, labels * 0, {"a": [1.0], "b": [1.0]})


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"a": [1.0]}, "'b' needs"),
        ({"a": [1.0], "b": []}, "'b' needs"),
        ({"a": [1.0], "b": [1.0], "bb": [1.0]}, "nearest layer is 'b'"),
        ({"a": [-1.0], "b": [1.0]}, "not negative"),
    ],
)
def test_candidates_that_do_not_fit(make, grid, message):
    fit, labels = make(20)
    with pytest.raises(errors.SlopeError, match=message):
        search_slopes(fit, labels, grid)


def test_reduced_search_starts_at_the_knee(make):
    fit, _ = make(40)
    slopes = reduced_slopes(fit, 0.0)
    for name, part in (("a", slice(0, 3)), ("b", slice(3, 8))):
        assert float((slopes[name] * fit.saliency[:, part]).abs().median()) == pytest.approx(1.0, rel=1e-5)
    moved = reduced_slopes(fit, 1.0, {"a": 0.5})
    assert moved["a"] / slopes["a"] == pytest.approx(2.718281828**1.5)
    with pytest.raises(errors.SlopeError, match="nearest"):
        reduced_slopes(fit, 0.0, {"aa": 1.0})
