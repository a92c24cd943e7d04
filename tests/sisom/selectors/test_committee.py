"""Committees by hand."""

import math
from dataclasses import replace

import pytest
import torch

from sisom import SELECTORS, Candidates, build_selector, errors
from sisom.selectors.committee import ensemble_votes
from tests.support.selector_rows import gaussian


def test_committees_by_hand():
    committee = torch.tensor(
        [
            [[1.0, 0.0], [0.5, 0.5], [0.9, 0.1]],
            [[0.0, 1.0], [0.5, 0.5], [0.6, 0.4]],
        ]
    )
    pool = Candidates(["a", "b", "c"], committee=committee)
    assert SELECTORS["qbc-vote"]().priority_of(pool, seed=0).tolist() == pytest.approx([math.log(2), 0, 0])
    mean = [0.75, 0.25]
    divergence = sum(
        sum(p * math.log(p / q) for p, q in zip(member, mean, strict=True))
        for member in ([0.9, 0.1], [0.6, 0.4])
    )
    expected = [math.log(2), 0, divergence / 2]
    for name in ("bald", "qbc-kl"):
        assert SELECTORS[name]().priority_of(pool, seed=0).tolist() == pytest.approx(expected, abs=1e-7)
    assert (SELECTORS["bald"]().committee, SELECTORS["qbc-kl"]().committee) == ("dropout", "ensemble")
    levelled = [
        build_selector("class-balanced", of=name).committee for name in ("bald", "qbc-vote", "margin")
    ]
    assert levelled == ["dropout", "ensemble", None]
    with pytest.raises(errors.NonFinite):
        SELECTORS["bald"]().priority_of(replace(pool, committee=-committee), seed=0)


def test_an_ensembles_votes_by_hand_and_row_by_row():
    logits = [torch.tensor([[0.0, math.log(3)], [math.log(9), 0.0]]), torch.zeros(2, 2)]
    votes = ensemble_votes(logits)
    assert votes.dtype == torch.float32
    hand = [[[0.25, 0.75], [0.9, 0.1]], [[0.5, 0.5], [0.5, 0.5]]]
    assert torch.allclose(votes, torch.tensor(hand))
    many = [gaussian(37, 10, 1), gaussian(37, 10, 2)]
    alone = torch.cat([ensemble_votes([each[i : i + 1] for each in many]) for i in range(37)], dim=1)
    assert torch.equal(ensemble_votes(many), alone)
