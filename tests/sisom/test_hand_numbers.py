"""Numbers small enough for paper: class 0 at (0,0), (1,0); class 1 at (3,0), (3,4); a query at (1,1) of class
0.
"""

from dataclasses import replace

import pytest
import torch

from sisom.bank.fit import energy_of
from sisom.bank.ratios import BankPoints, average_and_deviation, ratios
from sisom.bank.spec import BankSpec
from sisom.nearest.points import SortedPoints
from sisom.scoring import fuse

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


@pytest.mark.parametrize(("fusion", "expected"), [("zscore", 1.819887), ("raw", -2.765383)])
def test_fused_score(hand_bank, fusion, expected):
    bank = replace(hand_bank, fusion=fusion, r_avg=0.931940, r_std=0.749903, energy_mean=-5.0, energy_std=1.0)
    fused = fuse(bank, torch.tensor([-3.0]), torch.tensor([0.447214]))
    assert fused.item() == pytest.approx(expected, abs=2e-5)


def test_energy_of_uniform_logits():
    assert energy_of(torch.zeros(1, 4)).item() == pytest.approx(-1.3862944, abs=1e-6)
