"""Mixup and CutMix: by hand, by seed, and their shares."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.config.training import Augment, Crops
from pipeline.learn.recipe.mixing import Mixing, mixing


def chosen(seed: int, **options: float) -> Mixing:
    found = mixing(Augment(**options), 10, 8, seed=(seed,))  # type: ignore[arg-type]
    assert found is not None
    return found


def test_nothing_is_mixed_without_a_name() -> None:
    assert mixing(Crops(), 10, 8, seed=(0,)) is None
    assert mixing(Augment(), 10, 8, seed=(0,)) is None


def test_mixup_by_hand() -> None:
    own = torch.full((1, 3, 2, 2), 100, dtype=torch.uint8)
    other = torch.full((1, 3, 2, 2), 201, dtype=torch.uint8)
    mixed = Mixing(np.array([0]), 0.25).of(own, other)
    assert mixed.dtype == torch.uint8
    assert mixed.unique().tolist() == [125]  # 0.75 * 100 + 0.25 * 201 = 125.25


def test_cutmix_by_hand() -> None:
    own, other = torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.full((1, 3, 4, 4), 9, dtype=torch.uint8)
    mixed = Mixing(np.array([0]), 2 / 16, (1, 2, 0, 2)).of(own, other)
    assert mixed[0, 0].tolist() == [[0, 0, 0, 0], [9, 9, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert int(own.sum()) == 0


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_the_seed_decides_partners_and_share(name: str) -> None:
    first, again, other = chosen(1, **{name: 1.0}), chosen(1, **{name: 1.0}), chosen(2, **{name: 1.0})
    assert (first.share, first.box) == (again.share, again.box) != (other.share, other.box)
    assert first.partners.tolist() == again.partners.tolist() != other.partners.tolist()
    assert sorted(first.partners.tolist()) == list(range(10))


def test_the_share_of_cutmix_is_the_area_that_is_changed() -> None:
    own, other = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)
    for seed in range(200):
        mixed = chosen(seed, cutmix=1.0)
        assert float(mixed.of(own, other).mean()) == pytest.approx(mixed.share)


def test_shares_follow_the_beta_distribution() -> None:
    wide = np.array([chosen(seed, mixup=1.0).share for seed in range(400)])  # uniform
    assert wide.mean() == pytest.approx(0.5, abs=0.05)
    assert wide.std() == pytest.approx(12**-0.5, abs=0.03)
    narrow = np.array([chosen(seed, mixup=50.0).share for seed in range(400)])
    assert narrow.std() == pytest.approx(0.5 / 101**0.5, abs=0.01)


def test_both_take_turns_by_chance() -> None:
    cut = sum(chosen(seed, mixup=1.0, cutmix=1.0).box is not None for seed in range(400))
    assert 150 < cut < 250  # 200 in the mean with a deviation of 10
