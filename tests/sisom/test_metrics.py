"""Metrics by hand, and values that they refuse."""

import pytest
import torch

from sisom import errors, metrics


def test_metrics_by_hand():
    known, unknown = torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0.4, 0.9, 0.7, 0.2])
    assert metrics.auroc(known, unknown) == pytest.approx((1 + 2.5 + 4 + 3) / 16)
    assert metrics.fpr_at_tpr(known, unknown, tpr=0.75) == pytest.approx(0.5)
    assert metrics.fpr_at_tpr(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0])) == 0.0
    assert metrics.auroc(torch.zeros(3), torch.zeros(3)) == 0.5
    predicted, labels = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2])
    assert metrics.accuracy(predicted, labels) == 0.75
    assert metrics.per_class_accuracy(predicted, labels) == {0: 1.0, 1: 1.0, 2: 0.5}


def test_metrics_refuse_what_has_no_value():
    one, none = torch.zeros(1), torch.zeros(0)
    for call in (metrics.auroc, metrics.fpr_at_tpr):
        with pytest.raises(errors.EmptyInput):
            call(one, none)
        with pytest.raises(errors.NonFinite):
            call(one, one * torch.nan)
    with pytest.raises(errors.InputError):
        metrics.fpr_at_tpr(one, one, tpr=0.0)
    with pytest.raises(errors.EmptyInput):
        metrics.accuracy(none.long(), none.long())
    with pytest.raises((errors.ShapeMismatch, TypeError)):
        metrics.accuracy(one.long(), none.long())
