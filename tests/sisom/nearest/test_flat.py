"""The rule that says when faiss searches."""

import pytest
import torch

from sisom.nearest.flat import flat_is_faster
from sisom.nearest.points import SortedPoints
from sisom.nearest.queries import Queries


@pytest.mark.parametrize(
    ("processor", "columns", "rows", "expected"),
    [
        ("AVX2", 512, 500, True),
        ("AVX512", 512, 500, False),
        ("DEFAULT", 512, 500, False),
        ("AVX2", 511, 500, False),
        ("AVX2", 512, 300, False),
    ],
)
def test_the_rule(monkeypatch, processor, columns, rows, expected):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: processor)
    points, queries = torch.zeros(500, columns), torch.zeros(rows, columns)
    assert flat_is_faster(Queries.of_one_class(queries), SortedPoints.of_one_class(points)) is expected


def test_points_or_queries_of_several_classes_are_not_for_faiss(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    rows, two = torch.zeros(500, 512), torch.arange(500) // 250
    one = Queries.of_one_class(rows)
    assert flat_is_faster(one, SortedPoints.of_one_class(rows))
    assert not flat_is_faster(one, SortedPoints.of(rows, two))
    assert not flat_is_faster(Queries(rows, two), SortedPoints.of_one_class(rows))
