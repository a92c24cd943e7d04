"""Losses: by hand, against plain loops, and under changes that must not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sisom.losses import TAU, cross_entropy, logit_norm, mixed_targets

LOGITS = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]], dtype=torch.float64)  # 3/4 and 1/4, one half each


def rows(n: int = 12, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(n, classes))), torch.from_numpy(rng.integers(0, classes, n))


def slow(
    logits: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0, weights: list[float] | None = None
) -> float:
    """The same by loops, without torch's losses; targets are distributions."""
    n, classes = logits.shape
    total = 0.0
    for i in range(n):
        total_odds = sum(math.exp(float(v)) for v in logits[i])
        for k in range(classes):
            y = (1 - smoothing) * float(targets[i, k]) + smoothing / classes
            w = 1.0 if weights is None else weights[k]
            total -= w * y * (float(logits[i, k]) - math.log(total_odds))
    return total / n


def test_cross_entropy_by_hand() -> None:
    targets = torch.tensor([0, 1])
    plain = (-math.log(0.75) - math.log(0.5)) / 2
    assert float(cross_entropy(LOGITS, targets)) == pytest.approx(plain)
    smooth = (-0.9 * math.log(0.75) - 0.1 * math.log(0.25) - math.log(0.5)) / 2
    assert float(cross_entropy(LOGITS, targets, smoothing=0.2)) == pytest.approx(smooth)
    weighed = (-3.0 * math.log(0.75) - 0.5 * math.log(0.5)) / 2
    weights = torch.tensor([3.0, 0.5], dtype=torch.float64)
    assert float(cross_entropy(LOGITS, targets, weights=weights)) == pytest.approx(weighed)
    both = torch.tensor([[0.25, 0.75], [1.0, 0.0]], dtype=torch.float64)
    mixed = (-0.25 * math.log(0.75) - 0.75 * math.log(0.25) - math.log(0.5)) / 2
    assert float(cross_entropy(LOGITS, both)) == pytest.approx(mixed)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 3.0, 1.5]])
def test_cross_entropy_equals_plain_loops(smoothing: float, weights: list[float] | None) -> None:
    logits, targets = rows()
    given = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    wanted = slow(logits, F.one_hot(targets, 5), smoothing, weights)
    assert float(cross_entropy(logits, targets, smoothing=smoothing, weights=given)) == pytest.approx(wanted)
    soft = torch.softmax(logits.flip(0), 1)
    wanted = slow(logits, soft, smoothing, weights)
    assert float(cross_entropy(logits, soft, smoothing=smoothing, weights=given)) == pytest.approx(wanted)


def test_the_loss_of_a_row_does_not_depend_on_the_others() -> None:
    logits, targets = rows()
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.5], dtype=torch.float64)
    alone = [cross_entropy(logits[i : i + 1], targets[i : i + 1], weights=weights) for i in range(12)]
    whole = cross_entropy(logits, targets, weights=weights)
    assert float(torch.stack(alone).mean()) == pytest.approx(float(whole))


def test_logit_norm_by_hand() -> None:
    found = logit_norm(torch.tensor([[3.0, 4.0]], dtype=torch.float64), tau=0.5)
    assert found.flatten().tolist() == pytest.approx([1.2, 1.6])
    assert float(logit_norm(LOGITS[:1]).norm()) == pytest.approx(1 / TAU)
    assert torch.equal(logit_norm(torch.zeros(1, 3)), torch.zeros(1, 3))  # and no NaN


def test_logit_norm_forgets_the_length_and_keeps_the_order() -> None:
    logits, targets = rows()
    assert torch.allclose(logit_norm(7.0 * logits), logit_norm(logits), atol=1e-4)
    assert torch.equal(logit_norm(logits).argsort(1), logits.argsort(1))
    given = logits.clone().requires_grad_()
    cross_entropy(logit_norm(given), targets).backward()
    assert given.grad is not None
    along = (given.grad * logits).sum(1).abs()  # no gradient along the logits themselves
    assert float(along.max()) < 1e-6
    assert float(given.grad.abs().max()) > 1e-3


def test_mixed_targets_by_hand_and_as_a_mean_of_two_losses() -> None:
    own, other = torch.tensor([0, 1]), torch.tensor([2, 1])
    found = mixed_targets(own, other, share=0.25, classes=3)
    assert found.tolist() == [[0.75, 0.0, 0.25], [0.0, 1.0, 0.0]]
    logits, targets = rows()
    partners = targets.flip(0)
    mixed = mixed_targets(targets, partners, share=0.3, classes=5).double()
    two = 0.7 * F.cross_entropy(logits, targets) + 0.3 * F.cross_entropy(logits, partners)
    assert float(cross_entropy(logits, mixed)) == pytest.approx(float(two), rel=1e-6)
