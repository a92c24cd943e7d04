"""What tells novel from far, and which of the novel look alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from pipeline.ask.far_filter import tune_filter
from pipeline.ask.groups import grouped
from pipeline.config.sections import Storage
from pipeline.labels.tables import label_table
from pipeline.labels.tally import Labels
from pipeline.store.opening import open_store
from pipeline.types import SCORES, Label, LabelStatus
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from sisom.verdicts import best_filter


def f32(*values: float) -> Any:
    return np.asarray(values, np.float32)


def test_the_filter_by_hand() -> None:
    assert best_filter(f32(5, 6, 7), f32(1, 2, 3)) == (5.0, 1.0)
    # At 2: 3/3 - 2/4; at 4: 2/3 - 1/4; at 6: 1/3 - 0. The first is best.
    threshold, youden = best_filter(f32(2, 4, 6), f32(0, 1, 3, 5))
    assert (threshold, youden) == (2.0, 0.5)
    assert best_filter(f32(1, 2), f32(3, 4)) == (None, 0.0)  # no better than chance


def test_ties_call_less_far() -> None:
    # At 1: 2/2 - 1/2; at 3: 1/2 - 0: equal, and 3 is higher.
    assert best_filter(f32(1, 3), f32(0, 2)) == (3.0, 0.5)


@given(
    far=st.lists(st.integers(-5, 5), min_size=1, max_size=20),
    rest=st.lists(st.integers(-5, 5), min_size=1, max_size=20),
)
def test_the_index_is_the_best_of_the_roc_curve(far: list[int], rest: list[int]) -> None:
    """Against scikit-learn's curve over all thresholds, not only those at far answers."""
    truth = [1] * len(far) + [0] * len(rest)
    fpr, tpr, _ = roc_curve(truth, [*far, *rest], drop_intermediate=False)
    threshold, youden = best_filter(f32(*far), f32(*rest))
    best = float((tpr - fpr).max())
    assert (threshold is None) == (best <= 1e-12)
    if threshold is not None:
        assert youden == pytest.approx(best)
        hit = np.mean([value >= threshold for value in far]) - np.mean([value >= threshold for value in rest])
        assert hit == pytest.approx(best)


def workspace(folder: Path, energies: dict[str, float], files: int = 1) -> Workspace:
    found = Workspace(open_store(str(folder), Storage()))
    rows = [{"id": name, "energy": energy} for name, energy in energies.items()]
    for number in range(files):
        table = pa.Table.from_pylist(rows[number::files], schema=SCORES)
        found.write_table(f"scores/{number:05d}.parquet", table)
    return found


def answers(**status: LabelStatus) -> Labels:
    label = {"labeled": "cat"}
    return Labels(label_table(Label(name, label.get(s), s, "x") for name, s in status.items()))


def test_answers_meet_the_energies_of_this_round(tmp_path: Path) -> None:
    energies = (
        {f"f{i}": 10.0 + i for i in range(5)} | {f"k{i}": float(i) for i in range(6)} | {"s": 99.0, "p": 50.0}
    )
    found = workspace(tmp_path, energies)
    given: dict[str, LabelStatus] = {f"f{i}": "out-of-world" for i in range(5)}
    given |= {f"k{i}": "labeled" if i < 3 else "unknown-class" for i in range(6)}
    given |= {"s": "skipped", "gone": "out-of-world"}  # neither side, and no longer in the pool
    assert tune_filter(Folder(found), answers(**given)).model_dump() == {
        "far_from": 10.0,
        "far": 5,
        "rest": 6,
        "youden": 1.0,
    }
    del given["f0"]
    assert tune_filter(Folder(found), answers(**given)).model_dump() == {
        "far_from": None,
        "far": 4,
        "rest": 6,
        "youden": None,
    }
    assert tune_filter(Folder(found), answers()).model_dump() == {
        "far_from": None,
        "far": 0,
        "rest": 0,
        "youden": None,
    }


def test_groups_are_directions_and_the_same_again() -> None:
    rng = np.random.default_rng(0)
    centers = np.eye(3, 8, dtype=np.float32)
    truth = np.repeat([0, 1, 2], [50, 6, 4])
    features = centers[truth] + rng.normal(0, 0.01, (60, 8)).astype(np.float32)
    features *= rng.uniform(0.1, 10, (60, 1)).astype(np.float32)  # how long they are says nothing
    found = grouped(features, 3, seed=1)
    assert len({(a, b) for a, b in zip(truth, found, strict=True)}) == 3
    assert (grouped(features, 3, seed=1) == found).all()


def test_fewer_different_images_than_groups() -> None:
    same = np.ones((4, 3), np.float32)
    assert set(grouped(same, 3, seed=0)) == {0}
    assert len(set(grouped(np.concatenate([same, -same, 0 * same]), 9, seed=0))) == 3
