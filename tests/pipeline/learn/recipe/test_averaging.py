"""The exponential average of weights."""

from __future__ import annotations

import pytest
import torch

from pipeline.learn.recipe.averaging import Average


def set_to(net: torch.nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(value)


def test_an_average_by_hand_and_by_a_plain_loop() -> None:
    net = torch.nn.Linear(1, 1, bias=False).double()
    set_to(net, 1.0)
    average, wanted = Average(net, 0.5), 1.0
    for step in range(30):
        set_to(net, float(step))
        average.follow(net, step)
        keep = min(0.5, (1 + step) / (10 + step))
        wanted = keep * wanted + (1 - keep) * step
        if step == 0:
            assert float(average.net.weight) == pytest.approx(0.1)  # 0.1 of 1 and 0.9 of 0
        assert float(average.net.weight) == pytest.approx(wanted)
    assert net.weight.item() == 29.0


def test_running_means_are_averaged_and_counters_copied() -> None:
    net = torch.nn.BatchNorm1d(2)
    average = Average(net, 0.5)
    net(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    average.follow(net, 100)
    assert net.running_mean is not None
    assert average.net.running_mean.tolist() == pytest.approx((net.running_mean / 2).tolist())
    assert int(average.net.num_batches_tracked) == 1
    assert not average.net.training
    assert net.training
