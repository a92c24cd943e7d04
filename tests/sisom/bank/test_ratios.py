"""Numbers small enough for paper: class 0 at (0,0), (1,0); class 1 at (3,0), (3,4); a query at (1,1) of class
0.
"""

import pytest
import torch

from sisom.bank.ratios import BankPoints, average_and_deviation, ratios
from sisom.bank.spec import BankSpec
from sisom.nearest.points import SortedPoints

POINTS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [3.0, 4.0]])
LABELS = torch.tensor([0, 0, 1, 1])
SEARCHED = SortedPoints.of(POINTS, LABELS)
SOURCE = torch.arange(4)
QUERY = torch.tensor([[1.0, 1.0]])
ZERO = torch.tensor([0])


def found(queries=QUERY, classes=ZERO, *, outer="sample", rank=1, count=1, exclude=None):
    spec = BankSpec(outer=outer, rank=rank, neighbors=count)
    return ratios(queries, classes, BankPoints.of(SEARCHED, SOURCE, outer), spec=spec, exclude=exclude)


def test_nearest_inside_and_outside():
    result = found()
    assert result.inner.item() == 1.0
    assert result.outer.item() == pytest.approx(2.236068, abs=1e-6)
    assert result.ratio.item() == pytest.approx(0.447214, abs=1e-6)


@pytest.mark.parametrize(
    ("outer", "rank", "expected"),
    [("anchor", 1, 0.5), ("sample", 2, 0.632456), ("anchor", 2, 0.471405)],
)
def test_variants_of_the_ratio(outer, rank, expected):
    assert found(outer=outer, rank=rank).ratio.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("outer", "expected"),
    [("sample", [0.333333, 0.5, 2.0, 0.894427]), ("anchor", [0.5, 0.333333, 0.894427, 2.0])],
)
def test_leave_one_out_ratios(outer, expected):
    result = found(POINTS, LABELS, outer=outer, exclude=SOURCE)
    assert result.ratio.tolist() == pytest.approx(expected, abs=1e-6)
    assert average_and_deviation(result.ratio) == pytest.approx((0.931940, 0.749903), abs=1e-6)


def test_mean_of_two_neighbors():
    result = found(count=2)
    assert result.inner.item() == pytest.approx((1 + 2**0.5) / 2, abs=1e-6)
    assert result.outer.item() == pytest.approx((5**0.5 + 13**0.5) / 2, abs=1e-6)
