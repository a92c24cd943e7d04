"""Information density against all pairs."""

import torch

from tests.support.selector_rows import gaussian, picks, rows


def test_information_density_equals_all_pairs():
    h, logits = gaussian(30, 3, 23).abs(), gaussian(30, 3, 24)
    unit = h.double() / h.double().norm(dim=1, keepdim=True)
    p = torch.softmax(logits.double(), 1)
    worth = -(p * p.log()).sum(1) * (unit @ unit.T).mean(1) ** 2
    found = picks("information-density", rows(h, logits), k=30, beta=2.0)
    assert found == worth.argsort(descending=True).tolist()
