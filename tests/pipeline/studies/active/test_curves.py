"""Learning curves and their tables by hand."""

from __future__ import annotations

import pytest

from pipeline.studies.active.curves import Curve, matrix_of, means_of, names_of, tables


def curve(strategy: str, seed: int, *accuracies: float) -> Curve:
    lines = [
        {"labeled": 10 * (i + 1), "accuracy": value, "classes": 2, "query": [f"q{i}a", f"q{i}b"]}
        for i, value in enumerate(accuracies)
    ]
    return Curve(strategy, seed, tuple(lines))


CURVES = [
    curve("b", 0, 0.1, 0.5, 0.7),
    curve("a", 0, 0.1, 0.4, 0.9),
    curve("b", 1, 0.2, 0.6, 0.8),
    curve("a", 1, 0.2, 0.4, 0.6),
]


def test_strategies_keep_the_order_of_the_config() -> None:
    assert names_of(CURVES) == ["b", "a"]
    assert CURVES[0].budgets == [10, 20, 30]


def test_the_start_that_all_share_is_left_out_of_comparisons() -> None:
    assert matrix_of(CURVES).tolist() == [[0.5, 0.4], [0.7, 0.9], [0.6, 0.4], [0.8, 0.6]]
    assert means_of([CURVES[0], CURVES[2]]) == pytest.approx([0.15, 0.55, 0.75])


def test_tables_hold_every_round_query_strategy_and_pair() -> None:
    found = tables(CURVES, (0.5, 0.95))
    rounds = found["rounds"].to_pylist()
    assert len(rounds) == 12
    assert rounds[2] == {
        "strategy": "b", "seed": 0, "round": 2, "labeled": 30, "accuracy": 0.7, "classes": 2,
        "precision": None, "recall": None, "r_avg": None,
    }  # fmt: skip
    assert [row["id"] for row in found["queries"].to_pylist()[:4]] == ["q0a", "q0b", "q1a", "q1b"]
    best, other = found["summary"].to_pylist()
    assert (best["strategy"], best["final"], other["final"]) == (
        "b",
        pytest.approx(0.75),
        pytest.approx(0.75),
    )
    assert 10 < best["labels_to_0.5"] < 20
    assert best["labels_to_0.95"] is None
    (pair,) = found["pairs"].to_pylist()
    assert (pair["strategy"], pair["other"]) == ("b", "a")
    assert pair["mean_difference"] == pytest.approx((0.1 - 0.2 + 0.2 + 0.2) / 4)
