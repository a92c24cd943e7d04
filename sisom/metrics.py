"""Measures of scores and predictions.

Unknown images are the positive class; higher scores are stranger.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.errors import EmptyInput, InputError, NonFinite, ShapeMismatch

__all__ = ["accuracy", "aupr", "auroc", "fpr_at_tpr", "per_class_accuracy"]


def auroc(known: Float[Tensor, " n"], unknown: Float[Tensor, " u"]) -> float:
    """Compute the area under the ROC curve, in [0, 1].

    That is the chance that a random unknown image scores above a random known one, ties counting half.
    """
    from sklearn.metrics import roc_auc_score  # a second of imports that only evaluation should pay for

    truth, values = _joined(known, unknown)
    return float(roc_auc_score(truth, values))


def aupr(positive: Float[Tensor, " p"], negative: Float[Tensor, " n"]) -> float:
    """Compute the area under the precision-recall curve, in [0, 1].

    By trapezoids, as OpenOOD takes it.

    Higher scores speak for the positive images: unknown ones with their scores (AUPR out), or known ones with scores
    of the other sign (AUPR in).
    """
    from sklearn.metrics import auc, precision_recall_curve

    truth, values = _joined(negative, positive)
    precision, recall, _ = precision_recall_curve(truth, values)
    return min(float(auc(recall, precision)), 1.0)  # trapezoids may add up to a hair above one


def fpr_at_tpr(known: Float[Tensor, " n"], unknown: Float[Tensor, " u"], tpr: float = 0.95) -> float:
    """Find the smallest share of known images flagged while `tpr` are caught.

    In [0, 1]; `tpr` is the least share of the unknown images that a threshold must catch.
    """
    from sklearn.metrics import roc_curve

    if not 0 < tpr <= 1:
        raise InputError(f"tpr must lie in (0, 1], got {tpr}")
    truth, values = _joined(known, unknown)
    false_alarms, caught, _ = roc_curve(truth, values, drop_intermediate=False)
    # 1e-12: 19 of 20 caught must count as 0.95 although 19/20 and 0.95 may differ in the last bit.
    return float(false_alarms[caught >= tpr - 1e-12].min())


def accuracy(predicted: Int[Tensor, " n"], labels: Int[Tensor, " n"]) -> float:
    """Compute the share of correct predictions; in [0, 1]."""
    _check_rows(predicted, labels)
    return float((predicted == labels).double().mean())


def per_class_accuracy(predicted: Int[Tensor, " n"], labels: Int[Tensor, " n"]) -> dict[int, float]:
    """Compute the accuracy over the rows of each class among the labels."""
    _check_rows(predicted, labels)
    hit = (predicted == labels).double()
    return {int(c): float(hit[labels == c].mean()) for c in torch.unique(labels)}


def _joined(known: Tensor, unknown: Tensor) -> tuple[object, object]:
    if len(known) == 0 or len(unknown) == 0:
        raise EmptyInput(
            f"both kinds of images are needed, got {len(known)} known and {len(unknown)} unknown"
        )
    values = torch.cat([known.double(), unknown.double()]).cpu()
    if not bool(torch.isfinite(values).all()):
        raise NonFinite("scores must be finite")
    truth = torch.cat([torch.zeros(len(known)), torch.ones(len(unknown))])
    return truth.numpy(), values.numpy()


def _check_rows(predicted: Tensor, labels: Tensor) -> None:
    if predicted.shape != labels.shape:
        raise ShapeMismatch(f"{tuple(predicted.shape)} predictions for {tuple(labels.shape)} labels")
    if len(labels) == 0:
        raise EmptyInput("an accuracy needs at least one row")
