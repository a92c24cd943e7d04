"""What MLflow holds of rounds, and when it is imported."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.store.opening import LocalStore
from pipeline.track import database as tracking_database
from pipeline.track import names as tracking_keys
from pipeline.track import session as mlflow_session
from pipeline.track import tracker as tracking
from pipeline.track.database import TrackingUnavailable
from pipeline.track.names import flat
from pipeline.track.tracker import open_tracker
from tests.support.mlflow_records import RECORD, config_at, history, live, look

pytestmark = pytest.mark.usefixtures("patient_mlflow")


def test_the_champion_is_the_best_and_never_goes_back(store: LocalStore) -> None:
    tracker = open_tracker(config_at(store.uri), store)
    champions = []
    for index, best in [(0, True), (1, False), (2, True), (0, True), (3, False)]:
        tracker.log_round(replace(RECORD, index=index, best=best))
        champions.append(look(tracker.uri).champion)
    assert champions == [1, 1, 3, 3, 3]


def test_thousands_of_classes_and_names_of_any_kind(store: LocalStore) -> None:
    names = [
        "",
        ".",
        "..",
        "a/b",
        "a//b",
        "a*b",
        "a?b",
        "/etc",
        "x" * 600,
        "\u732b",
        "tab\tnew\nline",
        "a b:c-d.e",
    ]
    labels = {name: float(n) for n, name in enumerate(names)} | {f"class {n}": 1.0 for n in range(2000)}
    metrics = flat({"labels": labels})
    assert len(metrics) == len(labels)
    params = {f"p{n}": "v" * 9000 for n in range(230)}
    tracker = open_tracker(config_at(store.uri), store)
    logged = tracker.log_round(replace(RECORD, metrics={**metrics, "not*legal": 1.0}, params=params))
    run = look(tracker.uri).client.get_run(logged.run_id)
    assert len(run.data.metrics) == len(labels) + 1
    assert len(run.data.params) == 230


def test_a_round_at_work_is_seen_and_then_completed_in_the_same_run(store: LocalStore) -> None:
    config = config_at(store.uri)
    tracker = open_tracker(config, store)
    tracker.progress(0, {"scored": 90.0, "listed": 1000.0}, 100)
    seen = look(tracker.uri)
    (run,) = seen.rounds
    assert run.info.status == "RUNNING"
    assert live(seen, run) == {"live/scored": [(100, 90.0)], "live/listed": [(100, 1000.0)]}

    resumed = open_tracker(config, store)  # which goes on from what was written, and tells some of it again
    resumed.progress(0, {"scored": 45.0, "listed": 1000.0}, 50)
    resumed.progress(0, {"scored": 91.0, "listed": 1000.0}, 100)
    resumed.progress(0, {"scored": 180.0, "listed": 1000.0, "images_per_s": 7.5}, 200)
    logged = resumed.log_round(RECORD)
    resumed.progress(0, {"scored": 900.0}, 1000)  # late: the round is logged
    seen = look(tracker.uri)
    (run,) = seen.rounds
    assert run.info.run_id == logged.run_id
    assert run.info.status == "FINISHED"
    assert live(seen, run) == {
        "live/scored": [(100, 90.0), (200, 180.0)],
        "live/listed": [(100, 1000.0), (200, 1000.0)],
        "live/images_per_s": [(200, 7.5)],
    }
    assert history(seen, run)["test_accuracy"] == [(0, 0.5)]
    assert run.data.params == dict(RECORD.params)
    assert not [name for name in history(seen, seen.parent) if name.startswith("live/")]


def test_mlflow_is_imported_at_first_use_only() -> None:
    for room in (mlflow_session, tracking, tracking_database, tracking_keys):
        assert room.__file__
        body = ast.parse(Path(room.__file__).read_text(encoding="utf-8")).body
        froms = {node.module for node in body if isinstance(node, ast.ImportFrom)}
        names = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
        assert not [name for name in froms | names if name and name.startswith(("mlflow", "sqlalchemy"))]


def test_a_deleted_experiment_says_how_to_get_it_back(store: LocalStore) -> None:
    tracker = open_tracker(config_at(store.uri), store)
    tracker.log_round(RECORD)
    client = mlflow_session.open_client(tracker.uri)
    experiment = client.get_experiment_by_name(config_at(store.uri).tracking.experiment)
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    again = open_tracker(config_at(store.uri), store)
    with pytest.raises(
        TrackingUnavailable, match=r"is deleted there; restore it by `mlflow experiments restore"
    ):
        again.log_round(replace(RECORD, index=1))


def test_the_environments_server_is_taken_where_the_config_names_none(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store.uri}/elsewhere.db")
    tracker = open_tracker(config_at(store.uri), store)
    assert tracker.uri == f"sqlite:///{store.uri}/elsewhere.db"
    tracker.log_round(RECORD)
    assert Path(store.uri, "elsewhere.db").is_file()
    named = config_at(store.uri, uri=f"sqlite:///{store.uri}/named.db")
    assert open_tracker(named, store).uri.endswith("/named.db"), "the config goes before"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    assert (
        "MLFLOW_TRACKING_URI names no server, and is passed over"
        in open_tracker(config_at(store.uri), store).uri
    )
