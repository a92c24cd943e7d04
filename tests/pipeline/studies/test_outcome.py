"""Numbers of studies as people read them."""

from __future__ import annotations

import pytest

from pipeline.studies.outcome import SECONDS, marked, percent, seconds_table, spread


def test_mean_and_deviation_by_hand() -> None:
    assert spread([1.0, 2.0, 6.0]) == (3.0, pytest.approx(7**0.5))
    assert spread([0.5]) == (0.5, None)
    assert spread([0.1] * 10)[1] == pytest.approx(0.0, abs=1e-15)


def test_shares_are_read_in_percent() -> None:
    assert percent(0.9184) == "91.8"
    assert percent(0.9184, 0.002) == "91.8 ± 0.2"


def test_the_best_cells_are_marked_ties_and_all() -> None:
    columns = [[0.9, 0.8, 0.9], [5.0, None, 3.0], [None, 1.0, None], [2.0, 2.0, 2.0]]
    assert marked(columns, first=1, lowest=[False, True, False, False]) == {
        (0, 1), (2, 1),  # the highest, twice
        (2, 2),  # the lowest of those that are known
        (0, 4), (1, 4), (2, 4),  # a column of one number alone, the third, has no best
    }  # fmt: skip


def test_seconds_have_a_row_for_each_part_of_a_cell() -> None:
    found = seconds_table([{"cell": "a", "seconds": {"fit": 1, "score": 2.5}}, {"cell": "b", "seconds": {}}])
    assert found.schema == SECONDS
    assert found.to_pylist() == [
        {"cell": "a", "part": "fit", "seconds": 1.0},
        {"cell": "a", "part": "score", "seconds": 2.5},
    ]
    assert seconds_table([]).schema == SECONDS
