"""SISOMe with a second partner, by hand."""

from dataclasses import replace

import pytest
import torch

from sisom import Features, Scores
from sisom.detectors.fused import FarNeighbor, energy_zscore, fuse


def scores_of(ratio, energy):
    columns = {name: torch.tensor([0.0]) for name in ("inner", "outer", "sisom", "sisome")}
    return Scores(
        ratio=torch.tensor([ratio]), energy=torch.tensor([energy]), predicted=torch.tensor([0]), **columns
    )


@pytest.mark.parametrize(
    ("r_avg", "expected"),
    [
        (0.25, 0.25 * 3.0 + 0.75 * 2.0),
        (1.0, 3.0),
        (4.0, 3.0),
    ],  # a space that separates nothing goes by the partner
)
def test_the_worse_the_space_the_more_the_partner_counts(hand_bank, r_avg, expected):
    bank = replace(hand_bank, r_avg=r_avg, r_std=0.5)
    found = fuse(bank, scores_of(r_avg + 1.0, 0.0), torch.tensor([3.0]).double())
    assert found.tolist() == pytest.approx([expected])


def test_energies_are_told_in_standard_deviations(hand_bank):
    bank = replace(hand_bank, energy_mean=-5.0, energy_std=2.0)
    assert energy_zscore(bank, scores_of(1.0, -2.0)).tolist() == [1.5]


def test_a_far_neighbor_is_measured_by_what_labeled_rows_have():
    h = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    features = Features(h, (("a", 2),), h, torch.zeros(3, 2))
    near = FarNeighbor.of(features, torch.tensor([0, 1, 0]), source=torch.arange(3), k=1)
    assert near.mean == pytest.approx(2**0.5)  # each row's nearest other one is a right angle away
    # No two distances differ by more than rounding, and a deviation of zero would divide.
    assert near.std > 0
    few = FarNeighbor.of(features.select([0]), torch.tensor([0]), source=torch.tensor([0]), k=1)
    assert (few.mean, few.std) == (0.0, 1.0)
