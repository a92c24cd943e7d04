"""When there have been rounds enough; the workspace is written by hand, as rounds leave it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from pipeline.config.project import Config
from pipeline.labels.files import LabelFiles
from pipeline.rounds import stopping
from pipeline.store.opening import Store
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.keys import round_key

MakeConfig = Callable[..., Config]


def reason_to_stop(workspace: Workspace, config: Config) -> str | None:
    """The reason by the label files of this moment."""
    return stopping.reason_to_stop(workspace, config, LabelFiles.read(workspace))


def rounds(store: Store, accuracies: list[float | None], images: int = 1000, **metrics: Any) -> Workspace:
    workspace = Workspace(store)
    for index, accuracy in enumerate(accuracies):
        found = {"test_accuracy": accuracy, "held_out_accuracy": 0.5, "seconds": {"train": 1800.0}} | metrics
        workspace.write_json(round_key(index, "metrics.json"), found)
        workspace.write_json(round_key(index, "evaluation.json"), {"images": images})
        workspace.write_json(round_key(index, "model/model.json"), {"training": {"held_out": images}})
        workspace.write_json(round_key(index, "round.json"), {})
    return workspace


def test_without_rules_nothing_stops(store: Store, make_config: MakeConfig) -> None:
    assert reason_to_stop(rounds(store, [0.9, 0.9, 0.9]), make_config()) is None


def test_a_spent_budget_of_labels_whatever_the_answers_were(store: Store, make_config: MakeConfig) -> None:
    workspace = rounds(store, [0.5])
    answers = pa.table({"id": ["a", "b", "c"], "label": ["cat", None, None],
                        "status": ["labeled", "out-of-world", "skipped"]})  # fmt: skip
    workspace.write_table("labels/001-x.parquet", answers)
    workspace.write_table("labels/002-x.parquet", answers)  # the same ones again
    assert reason_to_stop(workspace, make_config(stop={"labels": 4})) is None
    assert "3 answers spend the budget of 3" in (
        reason_to_stop(workspace, make_config(stop={"labels": 3})) or ""
    )


@pytest.mark.parametrize("tested", [True, False])
def test_a_target_is_met_by_the_last_round_alone(store: Store, make_config: MakeConfig, tested: bool) -> None:
    best_before: list[float | None] = [0.95, 0.91]
    workspace = rounds(store, best_before if tested else [None, None], held_out_accuracy=0.91)
    assert reason_to_stop(workspace, make_config(stop={"accuracy": 0.92})) is None
    assert "91.0% reaches the target of 91.0%" in (
        reason_to_stop(workspace, make_config(stop={"accuracy": 0.91})) or ""
    )


def test_nothing_held_out_is_no_accuracy(store: Store, make_config: MakeConfig) -> None:
    workspace = rounds(store, [None], held_out_accuracy=None)
    assert reason_to_stop(workspace, make_config(stop={"accuracy": 0.01, "plateau": 1})) is None


@pytest.mark.parametrize(
    ("history", "images", "stops"),
    [
        ([0.80, 0.80, 0.80], 1000, True),
        ([0.80, 0.90, 0.80], 1000, False),  # 0.1 is above the noise, 1.645 sqrt(2 * 0.09 / 1000) = 0.022
        ([0.80, 0.82, 0.80], 1000, True),  # 0.02 is below 1.645 sqrt(2 * 0.1476 / 1000) = 0.0283
        ([0.80, 0.82, 0.80], 10_000, False),  # and above 0.0089
        ([0.80, 0.80], 1000, False),  # two rounds have not yet brought nothing
        ([0.90, 0.80, 0.80], 1000, True),
        ([0.80, 1.0, 1.0], 1000, False),
        ([1.0, 1.0, 1.0], 1000, True),
    ],
)
def test_a_plateau_is_no_gain_beyond_noise(
    store: Store, make_config: MakeConfig, history: list[float | None], images: int, stops: bool
) -> None:
    found = reason_to_stop(rounds(store, history, images), make_config(stop={"plateau": 2}))
    assert (found is not None) == stops
    assert found is None or "2 rounds brought" in found


def test_working_time(store: Store, make_config: MakeConfig) -> None:
    workspace = rounds(store, [0.5, 0.5, 0.5])
    assert reason_to_stop(workspace, make_config(stop={"hours": 1.6})) is None
    assert "worked for 1.5 hours" in (reason_to_stop(workspace, make_config(stop={"hours": 1.5})) or "")
