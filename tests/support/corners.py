"""Small features for corner cases."""

import torch

from sisom import Features


def flat(rows, logits):
    saliency = torch.tensor(rows, dtype=torch.float32)
    return Features(
        saliency, (("a", saliency.shape[1]),), saliency, torch.tensor(logits, dtype=torch.float32)
    )


def two_classes():
    fit = flat([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [3.0, 4.0]], [[0.0, 0.0, 0.0]] * 4)
    return fit, torch.tensor([0, 0, 1, 1])


def finite(scores):
    return all(
        bool(torch.isfinite(value).all())
        for value in (scores.inner, scores.outer, scores.ratio, scores.sisome)
    )
