"""Losses of classifiers, as pure functions of logits and targets."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["TAU", "cross_entropy", "logit_norm", "mixed_targets"]

TAU = 0.04


def cross_entropy(
    logits: Float[Tensor, "n K"],
    targets: Int[Tensor, " n"] | Float[Tensor, "n K"],
    *,
    smoothing: float = 0.0,
    weights: Float[Tensor, " K"] | None = None,
) -> Float[Tensor, ""]:
    """Compute the mean of `-sum_k w_k y_k log p_k` over rows.

    Args:
        logits: of which `p` is the softmax.
        targets: classes, or a distribution over them for each row.
        smoothing: share of each target that is spread evenly: y = (1 - smoothing) target + smoothing / K.
        weights: factors `w` of the classes. The mean is over rows and not divided by them, so the loss of a row does
            not depend on the others of its batch.
    """
    if weights is not None and targets.ndim == 1:
        targets = F.one_hot(targets, logits.shape[1]).to(logits.dtype)
    return F.cross_entropy(logits, targets, weight=weights, label_smoothing=smoothing)


def logit_norm(logits: Float[Tensor, "n K"], *, tau: float = TAU) -> Float[Tensor, "n K"]:
    """Scale each row of logits to the length `1 / tau`.

    LogitNorm (arXiv 2205.09310): their cross-entropy cannot fall by longer logits alone.
    """
    lengths: Tensor = torch.linalg.vector_norm(logits, dim=1, keepdim=True)
    return logits / (tau * (lengths + 1e-7))


def mixed_targets(
    targets: Int[Tensor, " n"], partners: Int[Tensor, " n"], *, share: float, classes: int
) -> Float[Tensor, "n K"]:
    """Compute the distributions of images mixed of two classes each.

    `share` is that of the partners.
    """
    own, other = (F.one_hot(each, classes).to(torch.get_default_dtype()) for each in (targets, partners))
    return (1 - share) * own + share * other
