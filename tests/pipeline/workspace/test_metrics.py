"""The metrics of a round: today's keys, and metrics of before there were versions."""

from __future__ import annotations

import pytest

from pipeline.store.opening import Store
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.metrics import Metrics

WRITTEN = {
    "version": 1,
    "round": 1,
    "listed": 100,
    "scored": 98,
    "quarantined": 2,
    "test_accuracy": 0.75,
    "open_accuracy": 0.5,
    "test_images": 8,
    "test_unreadable": 1,
    "per_class_accuracy": {"cat": 1.0, "dog": 0.5},
    "known_accuracy": 0.75,
    "joined_accuracy": None,
    "classes": 3,
    "classes_joined": ["owl"],
    "proposed": {"bat": 2},
    "held_out_accuracy": 0.625,
    "r_avg": 0.5,
    "threshold": 1.25,
    "threshold_rows": 20,
    "threshold_from": "held-out",
    "bank_points": 7,
    "slopes": {"avgpool": 10.0},
    "ood_auroc": 0.9,
    "ood_fpr95": 0.3,
    "marked_ood": 5,
    "labeled_total": 40,
    "labels_per_class": {"cat": 20, "dog": 20, "owl": 0},
    "refused": {"skipped": 1},
    "query_size": 10,
    "far_from": None,
    "query_precision": 0.8,
    "seconds": {"train": 1.5},
    "images_per_s": {"train": 64.0},
}


@pytest.fixture
def folder(store: Store) -> Folder:
    return Folder.of_round(Workspace(store), 1)


def test_metrics_hold_the_keys_of_the_contract(folder: Folder) -> None:
    metrics = Metrics.model_validate(WRITTEN)
    assert set(WRITTEN) == set(Metrics.model_fields)
    metrics.write(folder)
    assert folder.read_json("metrics.json") == WRITTEN
    assert Metrics.read(folder) == metrics


def test_metrics_of_an_earlier_release_lack_keys_and_have_others(folder: Folder) -> None:
    folder.write_json("metrics.json", {"test_accuracy": 0.5, "seconds": {"train": 2}, "retired": [1]})
    found = Metrics.read(folder)
    assert found.version == 0
    assert (found.test_accuracy, found.seconds, found.query_size, found.r_avg) == (
        0.5,
        {"train": 2.0},
        0,
        None,
    )
    assert (found.test_images, found.test_unreadable) == (None, None), "nobody counted them then"


@pytest.mark.parametrize(
    ("known", "goodness"),
    [
        ({"test_accuracy": 0.5, "held_out_accuracy": 0.9}, 0.5),
        ({"test_accuracy": 0.0, "held_out_accuracy": 0.9}, 0.0),
        ({"held_out_accuracy": 0.9}, 0.9),
        ({}, -1.0),
    ],
)
def test_a_model_is_as_good_as_its_test_accuracy_or_else_the_held_out_one(
    known: dict[str, float], goodness: float
) -> None:
    assert Metrics(**known).goodness == goodness
