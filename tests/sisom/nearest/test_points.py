"""Bank points laid out for searching."""

import pytest
import torch

from sisom.nearest.points import SortedPoints

POINTS = torch.tensor([[3.0, 4.0], [0.0, 1.0], [1.0, 0.0]])
SORTED = SortedPoints.of(POINTS, torch.tensor([0, 0, 2]))


def test_norms_by_hand_and_points_that_are_not_copied():
    assert SORTED.norms.tolist() == [25.0, 1.0, 1.0]
    assert SORTED.longest == pytest.approx(5.0)
    assert SORTED.points.data_ptr() == POINTS.data_ptr()
    assert len(SORTED) == 3


def test_spans_of_classes_and_of_one_without_points():
    start, stop = SORTED.span(torch.tensor([0, 1, 2]))
    assert list(zip(start.tolist(), stop.tolist(), strict=True)) == [(0, 2), (2, 2), (2, 3)]


def test_a_part_is_a_view():
    part = SORTED.only(1, 3)
    assert part.labels.tolist() == [0, 2]
    assert part.points.data_ptr() == POINTS[1:].data_ptr()
    assert part.longest == SORTED.longest


def test_no_points_are_sorted_points_too():
    empty = SortedPoints.of(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    assert (len(empty), empty.longest) == (0, 0.0)
