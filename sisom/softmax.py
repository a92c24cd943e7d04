"""How unsure a softmax is: functions of single rows of float64 logits."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["doubt", "entropy"]


def doubt(logits: Float[Tensor, "n K"]) -> Float[Tensor, " n"]:
    """`1 - max p`, as the sum of the other probabilities: sure rows differ where their `max p` are all one."""
    best = logits.argmax(dim=1, keepdim=True)
    odds = (logits - logits.gather(1, best)).exp().scatter(1, best, 0.0).sum(dim=1)
    return odds / (1 + odds)


def entropy(logits: Float[Tensor, "n K"]) -> Float[Tensor, " n"]:
    """In nats."""
    logs = torch.log_softmax(logits, dim=1)
    return -(logs.exp() * logs).sum(dim=1)
