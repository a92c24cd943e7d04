"""Tables of detection measures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.studies.active import curves
from pipeline.studies.lab import scoreboard
from tests.support.study_results import STRATEGIES, lines, many_curves


def test_tables_hold_what_was_measured() -> None:
    found = lines(["a", "b"])
    values = scoreboard.all_values(found, "detector").to_pylist()
    assert len(values) == 2 * 2 * 3
    summary = {
        (r["detector"], r["group"], r["set"]): r for r in scoreboard.summary(found, "detector").to_pylist()
    }
    near = [
        np.mean([line.sets[role]["auroc"] for role in ("near/a", "near/b")])
        for line in found
        if line.method == "a"
    ]
    assert summary["a", "near", "mean"]["auroc"] == pytest.approx(np.mean(near))
    assert summary["a", "near", "mean"]["auroc_std"] == pytest.approx(np.std(near, ddof=1))
    assert scoreboard.summary(lines(["a"], 1), "detector")["auroc_std"].null_count == 5
    tables = curves.tables(many_curves(STRATEGIES), (0.5, 0.99))
    assert tables["rounds"].num_rows == 8 * 3 * 5
    assert tables["pairs"].num_rows == 28
    assert tables["summary"]["labels_to_0.99"].null_count == 8


def test_areas_are_those_of_the_benchmark() -> None:
    """By OpenOOD's definitions, written again with scikit-learn; perfect scores give one, and never more."""
    from sklearn.metrics import auc, precision_recall_curve

    g = torch.Generator().manual_seed(0)
    known, unknown = torch.randn(300, generator=g).round(decimals=1), torch.randn(80, generator=g) + 1
    found = scoreboard.measures(known, unknown)
    is_known = np.r_[np.ones(300), np.zeros(80)]
    confidence = -torch.cat([known, unknown]).double().numpy()
    precision, recall, _ = precision_recall_curve(is_known, confidence)
    assert found["aupr_in"] == pytest.approx(auc(recall, precision))
    precision, recall, _ = precision_recall_curve(1 - is_known, -confidence)
    assert found["aupr_out"] == pytest.approx(auc(recall, precision))
    for n in (3, 7, 60, 300):
        perfect = scoreboard.measures(torch.zeros(n), torch.ones(n // 3))
        assert perfect == pytest.approx({"auroc": 1.0, "fpr95": 0.0, "aupr_in": 1.0, "aupr_out": 1.0})
        assert max(perfect.values()) <= 1.0
