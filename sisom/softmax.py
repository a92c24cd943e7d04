"""Uncertainty of a softmax, of single rows of float64 logits."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["doubt", "entropy"]


def doubt(logits: Float[Tensor, "n K"]) -> Float[Tensor, " n"]:
    """Compute `1 - max p` as the sum of the other probabilities.

    So sure rows differ where their `max p` are all one.
    """
    best = logits.argmax(dim=1, keepdim=True)
    odds = (logits - logits.gather(1, best)).exp().scatter(1, best, 0.0).sum(dim=1)
    return odds / (1 + odds)


def entropy(logits: Float[Tensor, "n K"]) -> Float[Tensor, " n"]:
    """Compute the entropy of the softmax in nats."""
    logs = torch.log_softmax(logits, dim=1)
    return -(logs.exp() * logs).sum(dim=1)
