"""A committed round as MLflow learns of it: once, or later where nobody answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.config.project import Config
from pipeline.store.opening import Store
from pipeline.track.database import TrackingUnavailable
from pipeline.track.record import record_round
from pipeline.track.session import RoundRecord
from pipeline.track.tracker import LoggedRound
from pipeline.voice import Voice
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.metrics import Metrics
from pipeline.workspace.plan import Plan


class Tracker:
    """Keeps what it is told, or does not answer."""

    def __init__(self, *, answers: bool = True) -> None:
        self.records: list[RoundRecord] = []
        self.answers = answers

    def log_round(self, record: RoundRecord) -> LoggedRound:
        if not self.answers:
            raise TrackingUnavailable("MLflow is away")
        self.records.append(record)
        return LoggedRound("run", "parent", 3)


@pytest.fixture
def workspace(store: Store, make_config: Callable[..., Config]) -> Workspace:
    found, config = Workspace(store), make_config()
    for index, accuracy in enumerate((0.5, 0.75, 0.625)):
        folder = Folder.of_round(found, index)
        Plan(index=index, config=config.frozen(), taxonomy=config.taxonomy).write(folder)
        Metrics(
            round=index, test_accuracy=accuracy, listed=9, slopes={"avgpool": 10.0}, labels_per_class={"a/b": 2},
            test_images=8, test_unreadable=3,
            seconds={"train": 1.5}, images_per_s={"train": 64.0},
        ).write(folder)  # fmt: skip
        for name in (keys.QUERY, keys.SLOPES, keys.EVALUATION, keys.REPORT, keys.plot_key("scores.png")):
            folder.put(name, name.encode())
        folder.put(keys.MODEL_WEIGHTS, b"weights")
        folder.put(keys.MODEL_RECORD, b"{}")
    return found


def record(workspace: Workspace, index: int, config: Config, tracker: Tracker) -> None:
    folder = Folder.of_round(workspace, index)
    record_round(folder, index, config, tracker=tracker, voice=Voice())  # type: ignore[arg-type]


def test_a_round_is_recorded_once(workspace: Workspace, make_config: Callable[..., Config]) -> None:
    tracker = Tracker()
    for _ in range(2):
        record(workspace, 1, make_config(seed=7), tracker)
    (told,) = tracker.records
    assert told.index == 1
    assert told.params["seed"] == "0", "the round has frozen another seed than the config has by now"
    assert told.metrics["test_accuracy"] == 0.75
    assert told.metrics["listed"] == 9.0
    assert "r_avg" not in told.metrics, "what is not known is left out"
    assert (told.metrics["slope/avgpool"], told.metrics["seconds/train"]) == (10.0, 1.5)
    assert sum(name.startswith("labels/") for name in told.metrics) == 1
    assert (told.metrics["test_images"], told.metrics["test_unreadable"]) == (8.0, 3.0)
    assert sorted(told.artefacts) == [
        "evaluation.json", "plots/scores.png", "query.parquet", "report.html", "slopes.json",
    ]  # fmt: skip
    assert told.artefacts["evaluation.json"] == b"evaluation.json"
    assert told.model == {"model.safetensors": b"weights", "model.json": b"{}"}
    marker = Folder.of_round(workspace, 1).read_json(keys.TRACKING)
    assert marker == {"run_id": "run", "parent_run_id": "parent", "model_version": 3}


@pytest.mark.parametrize(("index", "best"), [(0, True), (1, True), (2, False)])
def test_the_best_so_far_is_marked(
    workspace: Workspace, make_config: Callable[..., Config], index: int, best: bool
) -> None:
    tracker = Tracker()
    record(workspace, index, make_config(), tracker)
    assert tracker.records[0].best is best


def test_a_tracker_that_does_not_answer_stops_nothing(
    workspace: Workspace, make_config: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    record(workspace, 0, make_config(), Tracker(answers=False))
    assert not Folder.of_round(workspace, 0).exists(keys.TRACKING)
    assert "tracking  not now: MLflow is away" in "".join(capsys.readouterr())
    tracker = Tracker()
    record(workspace, 0, make_config(), tracker)
    assert len(tracker.records) == 1


def test_a_round_whose_report_was_withdrawn_is_recorded_without_it(
    workspace: Workspace, make_config: Callable[..., Config]
) -> None:
    workspace.store.delete(keys.round_key(0, keys.REPORT))
    tracker = Tracker()
    record(workspace, 0, make_config(), tracker)
    assert sorted(tracker.records[0].artefacts) == sorted(
        (keys.QUERY, keys.SLOPES, keys.EVALUATION, keys.plot_key("scores.png"))
    )
