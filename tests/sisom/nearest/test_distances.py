"""The search against float64 brute force, on easy, clustered and degenerate points, and bit by bit under cuts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sisom.nearest.distances import neighbors
from sisom.nearest.points import SortedPoints
from sisom.nearest.queries import Queries


def world(seed, kind, rows=None):
    g = torch.Generator().manual_seed(seed)
    draw = lambda low, high: int(torch.randint(low, high, (1,), generator=g))  # noqa: E731
    classes, m, n, d = draw(2, 12), draw(2, 700), rows or draw(1, 150), draw(1, 70)
    labels = torch.randint(0, classes, (m,), generator=g).sort().values
    points = torch.randn(m, d, generator=g)
    if kind == "tight":  # closer together than the product can tell: every proof fails
        points = points * 1e-4 + torch.randn(classes, d, generator=g)[labels]
    if kind == "ties":
        points = points.round()
    queries = points[torch.randint(0, m, (n,), generator=g)]
    if seed % 2:
        queries = queries + 0.01 * torch.randn(n, d, generator=g)
    wanted = torch.randint(0, classes + 1, (n,), generator=g)
    hidden = torch.randint(-1, m, (n,), generator=g)
    return SortedPoints.of(points, labels), queries, wanted, hidden


def brute(searched, queries, wanted, hidden, inner, outer):
    distance = torch.cdist(
        queries.double(), searched.points.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    rows = (hidden >= 0).nonzero().flatten()
    distance[rows, hidden[rows]] = torch.inf
    same = searched.labels == wanted[:, None]

    def smallest(mask, k):
        values = distance.masked_fill(~mask, torch.inf).sort(dim=1).values[:, :k]
        return torch.nn.functional.pad(values, (0, max(0, k - values.shape[1])), value=torch.inf)

    return smallest(same, inner), smallest(~same, outer)


def assert_close(ours, theirs):
    assert torch.equal(torch.isinf(ours), torch.isinf(theirs))
    finite = torch.isfinite(theirs)
    assert bool(((ours - theirs).abs() <= 1e-5 * theirs + 1e-12)[finite].all())


@pytest.mark.parametrize("kind", ["loose", "tight", "ties"])
@pytest.mark.parametrize("seed", range(6))
def test_equals_brute_force(seed, kind):
    searched, queries, wanted, hidden = world(seed, kind)
    inner, outer = brute(searched, queries, wanted, hidden, 2, 3)
    found = neighbors(Queries(queries, wanted, hidden), searched, inner=2, outer=3)
    assert_close(found.inner, inner)
    assert_close(found.outer, outer)
    assert not bool((found.inner_index == hidden[:, None])[hidden >= 0].any())


@pytest.mark.parametrize("kind", ["loose", "tight", "ties"])
@pytest.mark.parametrize("option", [{"budget_bytes": 1 << 14}, {"budget_bytes": 1 << 18}])
def test_budget_changes_nothing(kind, option):
    searched, queries, wanted, hidden = world(7, kind)
    base = neighbors(Queries(queries, wanted, hidden), searched, inner=2, outer=3)
    other = neighbors(Queries(queries, wanted, hidden), searched, inner=2, outer=3, **option)
    assert torch.equal(base.inner, other.inner)
    assert torch.equal(base.outer, other.outer)


@given(seed=st.integers(0, 1000), cut=st.integers(1, 60), kind=st.sampled_from(["loose", "tight", "ties"]))
@settings(max_examples=15, deadline=None)
def test_cuts_change_no_bit(seed, cut, kind):
    searched, queries, wanted, hidden = world(seed, kind, rows=60)
    whole = neighbors(Queries(queries, wanted, hidden), searched, inner=1, outer=1)
    parts = [
        neighbors(Queries(queries, wanted, hidden).at(slice(s, s + cut)), searched, inner=1, outer=1)
        for s in range(0, 60, cut)
    ]
    assert torch.equal(torch.cat([p.inner for p in parts]), whole.inner)
    assert torch.equal(torch.cat([p.outer for p in parts]), whole.outer)


def test_without_an_outer_side_only_the_own_class_is_searched():
    searched, queries, wanted, hidden = world(3, "loose")
    both = neighbors(Queries(queries, wanted, hidden), searched, inner=2, outer=1)
    inner = neighbors(Queries(queries, wanted, hidden), searched, inner=2, outer=0)
    assert torch.equal(both.inner, inner.inner)
    assert inner.outer.shape == (len(queries), 0)


def test_a_thousand_classes():
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(1000).repeat_interleave(3)
    searched = SortedPoints.of(torch.randn(3000, 8, generator=g), labels)
    queries, wanted = torch.randn(50, 8, generator=g), torch.randint(0, 1000, (50,), generator=g)
    none = torch.full((50,), -1)
    inner, outer = brute(searched, queries, wanted, none, 1, 1)
    found = neighbors(Queries(queries, wanted), searched, inner=1, outer=1)
    assert_close(found.inner, inner)
    assert_close(found.outer, outer)


def test_no_queries():
    searched, queries, wanted, _ = world(0, "loose")
    found = neighbors(Queries(queries[:0], wanted[:0]), searched, inner=2, outer=1)
    assert found.inner.shape == (0, 2) and found.outer_index.shape == (0, 1)


def test_identical_points_everywhere():
    searched = SortedPoints.of(torch.zeros(500, 6), torch.arange(500) // 100)
    found = neighbors(Queries.of_one_class(torch.zeros(9, 6)), searched, inner=1, outer=1)
    assert found.inner.tolist() == [[0.0]] * 9 and found.outer.tolist() == [[0.0]] * 9


def test_strided_inputs_are_as_good_as_any(make):
    from sisom import fit_bank, score

    fit, labels = make(120)
    every = torch.arange(0, 120, 2)
    wide = fit.saliency.repeat_interleave(2, dim=1)[:, ::2]
    strided = type(fit)(wide[::2], fit.layer_dims, fit.penultimate[::2], fit.logits[::2])
    one = score(fit_bank(strided, labels[::2], slopes=1.0), strided, exclude=torch.arange(120)[::2] // 2)
    plain = fit.select(every)
    two = score(fit_bank(plain, labels[every], slopes=1.0), plain, exclude=torch.arange(60))
    assert torch.equal(one.sisome, two.sisome)
