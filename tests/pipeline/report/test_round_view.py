"""Values of the round report."""

from __future__ import annotations

import pytest

from pipeline.report.round_view import Histogram, is_number, total


@pytest.mark.parametrize("value", [0, -1, 0.5, 10**30])
def test_finite_numbers_can_be_shown(value: float) -> None:
    assert is_number(value)


@pytest.mark.parametrize("value", [None, "1", float("nan"), float("inf"), b"1", [1]])
def test_nothing_else_is_a_number(value: object) -> None:
    assert not is_number(value)


def test_a_histogram_counts_all_its_groups() -> None:
    assert total(Histogram((0.0, 1.0, 2.0), {"known": (3, 4), "far": (0, 5)})) == 12
    assert total(Histogram((0.0, 1.0), {})) == 0
    assert total(None) == 0
