"""Greedy picks in blocks, and the races that draw them."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from sisom import errors
from sisom.selectors.blocks import Race
from sisom.selectors.coreset import KCenterBlock


def test_races_are_won_in_proportion_to_the_weights():
    weights = torch.tensor([0.0, 1.0, 2.0, 3.0, 6.0])
    for step in (1, 2):
        won = [int((weights * Race("abcde", seed).rates(step)).argmax()) for seed in range(3000)]
        counts = np.bincount(won, minlength=5)
        assert counts[0] == 0
        assert chisquare(counts[1:], 3000 * (weights[1:] / 12).numpy()).pvalue > 1e-3


def test_blocks_want_their_ids_in_order():
    for ids in (["b", "a"], ["a", "a"]):
        with pytest.raises(errors.InputError, match="ascend"):
            KCenterBlock(ids, torch.zeros(2, 1), None, seed=0)


def test_races_are_exponential_and_independent():
    race = Race([str(i) for i in range(20000)], seed=0)
    first, second = 1 / race.rates(0), 1 / race.rates(1)
    for times in (first, second):
        assert float(times.min()) > 0
        assert float(times.mean()) == pytest.approx(1, abs=0.03) and float(times.var()) == pytest.approx(
            1, abs=0.08
        )
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.03
