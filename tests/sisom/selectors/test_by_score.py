"""Selectors that follow the scores."""

import torch

from sisom import ROW_SELECTORS, Scores
from sisom.selectors.base import top


def test_scores_decide():
    value = lambda *v: torch.tensor(v)  # noqa: E731
    scores = Scores(
        predicted=torch.tensor([0, 0, 0]),
        inner=value(1.0, 1.0, 1.0),
        outer=value(1.0, 1.0, 1.0),
        ratio=value(3.0, 1.0, 2.0),
        energy=value(-1.0, -2.0, -0.5),
        sisom=value(3.0, 1.0, 2.0),
        sisome=value(0.1, 0.2, 0.3),
    )
    picks = {
        name: top("abc", ROW_SELECTORS[name]().priority("abc", scores, seed=0), 3).tolist()
        for name in ("sisom", "energy", "sisome")
    }
    assert picks == {"sisom": [0, 2, 1], "energy": [2, 0, 1], "sisome": [2, 1, 0]}
