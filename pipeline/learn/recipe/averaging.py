"""The exponential average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Average:
    """A copy of a network whose weights follow the trained ones slowly.

    After step t (from 0) the copy is `d` times itself and `1 - d` times the network, with d = min(decay, (1 + t) /
    (10 + t)): a short training is not held back by its first weights. Running means and variances are averaged too;
    counters are copied.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = copy.deepcopy(net).requires_grad_(False).eval()
        self._decay = decay

    @torch.no_grad()
    def follow(self, net: nn.Module, step: int) -> None:
        """Move towards the weights after a step."""
        keep = min(self._decay, (1 + step) / (10 + step))
        theirs = net.state_dict()
        for name, mine in self.net.state_dict().items():
            if mine.is_floating_point():
                mine.lerp_(theirs[name], 1 - keep)
            else:
                mine.copy_(theirs[name])
