"""The k-th distance is the last of the k nearest, to the bit."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sisom.nearest import kth
from sisom.nearest.distances import neighbors
from sisom.nearest.kth import kth_distance
from sisom.nearest.points import SortedPoints
from sisom.nearest.queries import Queries


def world(seed, kind):
    g = torch.Generator().manual_seed(seed)
    draw = lambda low, high: int(torch.randint(low, high, (1,), generator=g))  # noqa: E731
    classes, m, n, d = draw(1, 4), draw(2, 600), draw(1, 150), draw(1, 70)
    labels = torch.randint(0, classes, (m,), generator=g).sort().values
    points = torch.randn(m, d, generator=g)
    if kind == "tight":  # closer together than the product can tell: every proof fails
        points = points * 1e-4 + torch.randn(classes, d, generator=g)[labels]
    if kind == "ties":
        points = points.round()
    if kind == "unit":
        points = torch.nn.functional.normalize(points)
    queries = points[torch.randint(0, m, (n,), generator=g)]
    if seed % 2:
        queries = queries + 0.01 * torch.randn(n, d, generator=g)
    wanted = torch.randint(0, classes + 1, (n,), generator=g)
    return SortedPoints.of(points, labels), Queries(queries, wanted, torch.randint(-1, m, (n,), generator=g))


@given(
    seed=st.integers(0, 1000),
    k=st.sampled_from([1, 2, 7, 50, 700]),
    kind=st.sampled_from(["loose", "tight", "ties", "unit"]),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_last_of_the_k_nearest_to_the_bit(seed, k, kind):
    points, queries = world(seed, kind)
    assert kth_distance(queries, points, k).equal(neighbors(queries, points, inner=k, outer=0).inner[:, -1])


@pytest.mark.parametrize("kind", ["loose", "tight", "ties", "unit"])
def test_pieces_of_a_small_buffer_change_no_bit(kind, monkeypatch):
    points, queries = world(11, kind)
    whole = kth_distance(queries, points, 9)
    monkeypatch.setattr(kth, "BUDGET_BYTES", 1 << 14)
    assert kth_distance(queries, points, 9).equal(whole)


def test_few_pairs_are_measured_where_rounding_is_small(monkeypatch):
    g = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(2300, 32, generator=g))
    points, queries = SortedPoints.of_one_class(rows[:2000]), Queries.of_one_class(rows[2000:])
    pairs, measure = [], kth.squared_distances
    monkeypatch.setattr(
        kth,
        "squared_distances",
        lambda queries, points, *, rows, columns: (
            pairs.append(len(rows)) or measure(queries, points, rows=rows, columns=columns)
        ),
    )
    kth_distance(queries, points, 50)
    assert sum(pairs) < 2 * 300


def test_no_queries_and_too_few_points():
    points = SortedPoints.of_one_class(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    assert kth_distance(Queries.of_one_class(torch.zeros(0, 3)), points, 2).shape == (0,)
    found = kth_distance(Queries.of_one_class(points.points, torch.arange(5)), points, 5)
    assert found.tolist() == [torch.inf] * 5


@pytest.fixture
def flat(monkeypatch):
    """Search by faiss whatever the processor and the size."""
    monkeypatch.setattr(kth, "flat_is_faster", lambda queries, points: True)


@given(
    seed=st.integers(0, 1000),
    k=st.sampled_from([1, 2, 7, 50, 700]),
    kind=st.sampled_from(["loose", "tight", "ties", "unit"]),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_faiss_changes_no_bit(flat, seed, k, kind):
    sorted_points, queries = world(seed, kind)
    points, hidden = SortedPoints.of_one_class(sorted_points.points), queries.hidden if seed % 3 else None
    asked = Queries.of_one_class(queries.points, hidden)
    assert kth_distance(asked, points, k).equal(neighbors(asked, points, inner=k, outer=0).inner[:, -1])


def test_faiss_takes_the_threads_that_torch_takes(flat):
    import faiss

    rows = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            kth_distance(Queries.of_one_class(rows), SortedPoints.of_one_class(rows), 3)
            assert faiss.omp_get_max_threads() == threads
    finally:
        torch.set_num_threads(before)
