"""How unsure a softmax is, by hand."""

import math

import pytest
import torch

from sisom.softmax import doubt, entropy

ODDS = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]], dtype=torch.float64)  # 3/4 and 1/4, one half each


def test_doubt_by_hand():
    assert doubt(ODDS).tolist() == pytest.approx([0.25, 0.5])


def test_doubt_tells_sure_rows_apart():
    sure = torch.tensor([[50.0, 0.0], [60.0, 0.0]], dtype=torch.float64)
    assert (1 - torch.softmax(sure, dim=1).amax(dim=1)).tolist() == [0.0, 0.0]
    assert doubt(sure).tolist() == pytest.approx([math.exp(-50), math.exp(-60)])


def test_entropy_by_hand():
    expected = [-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)), math.log(2)]
    assert entropy(ODDS).tolist() == pytest.approx(expected)
