"""MLflow as it really is: SQLite on disk and on S3, a server, no server, and a call cut off anywhere."""

from __future__ import annotations

import ast
import io
import json
import multiprocessing
import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow_server import mlflow_server
from rich.console import Console

from pipeline import voice as progress
from pipeline.config.project import Config
from pipeline.errors import StoreUnavailable, SystemFault, mask
from pipeline.store.opening import LocalStore, Store, open_store
from pipeline.track import database as tracking_database
from pipeline.track import names as tracking_keys
from pipeline.track import session as mlflow_session
from pipeline.track import tracker as tracking
from pipeline.track.database import TrackingUnavailable
from pipeline.track.names import MAX_KEY_CHARS, config_params, flat, key
from pipeline.track.session import RoundRecord
from pipeline.track.tracker import open_tracker
from pipeline.workspace.keys import MLFLOW_DATABASE

RECORD = RoundRecord(
    index=0,
    params={"train/lr": "0.1", "taxonomy": '["cat","dog"]'},
    metrics={
        "test_accuracy": 0.5,
        "r_avg": None,
        "ood_auroc": float("nan"),
        "labels/cat": 3,
        "seconds/train": 1.5,
    },
    artefacts={"query.parquet": b"query", "plots/scores.png": b"plot"},
    model={"model.safetensors": b"weights", "model.json": b"{}"},
    best=True,
)


def config_at(workspace: str, **tracking: str) -> Config:
    return Config.model_validate_json(
        json.dumps(
            {
                "workspace": workspace,
                "taxonomy": ["cat", "dog"],
                "demo": "digits",
                "pool": {"uri": f"{workspace}/pool"},
                "tracking": tracking,
            }
        )
    )


@dataclass(frozen=True)
class Seen:
    """What somebody sees who opens the store with MLflow alone."""

    client: Any
    parent: Any
    rounds: list[Any]
    versions: list[Any]
    champion: int | None


def look_at(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def look(uri: str) -> Seen:
    client = look_at(uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    rounds = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(rounds) == len(runs) - 1
    versions = list(client.search_model_versions())
    models = client.search_registered_models()
    champion = models[0].aliases.get("champion") if models else None
    rounds.sort(key=lambda run: run.data.tags["sisom.round"])
    return Seen(client, parent, rounds, versions, int(champion) if champion else None)


def history(seen: Seen, run: Any) -> dict[str, list[tuple[int, float]]]:
    return {
        name: [(m.step, m.value) for m in seen.client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


def files(client: Any, run_id: str, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    root = Path(client.download_artifacts(run_id, "", str(folder)))
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def assert_whole(seen: Seen, folder: Path) -> None:
    """One run with one value for each metric, all files, one version."""
    (run,) = seen.rounds
    assert run.info.status == seen.parent.info.status == "FINISHED"
    assert run.data.params == dict(RECORD.params)
    assert history(seen, run) == {
        "test_accuracy": [(0, 0.5)],
        "labels/cat": [(0, 3.0)],
        "seconds/train": [(0, 1.5)],
    }
    assert history(seen, seen.parent) == {"test_accuracy": [(0, 0.5)]}
    model = {f"model/{name}": data for name, data in RECORD.model.items()}
    assert files(seen.client, run.info.run_id, folder) == {**RECORD.artefacts, **model}
    (version,) = seen.versions
    assert version.run_id == run.info.run_id
    assert version.source == f"{run.info.artifact_uri}/model"
    assert "s3cret" not in repr((run, seen.parent, version))
    assert seen.champion == 1


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A migrated SQLite file, so that not every test pays for the migration."""
    folder = tmp_path_factory.mktemp("empty")
    config = config_at(str(folder))
    open_tracker(config, open_store(str(folder), config.storage)).warm()
    with sqlite3.connect(folder / MLFLOW_DATABASE) as database:
        database.execute("DELETE FROM tags")
        database.execute("DELETE FROM runs")
        database.execute("DELETE FROM experiments")
        data = database.serialize()
    database.close()
    return data


@pytest.fixture
def store(tmp_path: Path, empty_store: bytes) -> LocalStore:
    store = LocalStore(str(tmp_path / "work space #1"))
    store.put(MLFLOW_DATABASE, empty_store)
    return store


# ------------------------------------------------------------------------------------------- one round, again


def test_a_round_is_logged_once_however_often_it_is_said(store: LocalStore, tmp_path: Path) -> None:
    tracker = open_tracker(config_at(store.uri), store)
    logged = tracker.log_round(RECORD)
    assert logged.model_version == 1
    assert tracker.log_round(RECORD) == logged
    changed = replace(RECORD, params={"train/lr": "9"}, metrics={"test_accuracy": 0.9}, artefacts={})
    assert open_tracker(config_at(store.uri), store).log_round(changed) == logged
    assert_whole(look(tracker.uri), tmp_path / "files")


def test_rounds_hang_below_one_parent_and_make_its_curve(store: LocalStore) -> None:
    for index in range(3):
        tracker = open_tracker(config_at(store.uri), store)
        tracker.log_round(replace(RECORD, index=index, metrics={"test_accuracy": 0.5 + index / 10}))
    seen = look(tracker.uri)
    assert [run.data.tags["sisom.round"] for run in seen.rounds] == ["000", "001", "002"]
    assert history(seen, seen.parent) == {"test_accuracy": [(0, 0.5), (1, 0.6), (2, 0.7)]}
    assert sorted((v.version, v.tags["sisom.round"]) for v in seen.versions) == [
        (1, "000"),
        (2, "001"),
        (3, "002"),
    ]


def test_the_champion_is_the_best_and_never_goes_back(store: LocalStore) -> None:
    tracker = open_tracker(config_at(store.uri), store)
    champions = []
    for index, best in [(0, True), (1, False), (2, True), (0, True), (3, False)]:
        tracker.log_round(replace(RECORD, index=index, best=best))
        champions.append(look(tracker.uri).champion)
    assert champions == [1, 1, 3, 3, 3]


def test_a_round_without_a_model_has_no_version(store: LocalStore) -> None:
    tracker = open_tracker(config_at(store.uri), store)
    assert tracker.log_round(replace(RECORD, model={})).model_version is None
    assert look(tracker.uri).versions == []


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


# ---------------------------------------------------------------------------------------- while a round works


def live(seen: Seen, run: Any) -> dict[str, list[tuple[int, float]]]:
    return {name: steps for name, steps in history(seen, run).items() if name.startswith("live/")}


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


# ------------------------------------------------------------------------------------------ cut off anywhere


@dataclass(frozen=True)
class Failing(LocalStore):
    """A store that takes `left[0]` more artefacts and then no more."""

    left: tuple[list[int], ...] = ()

    def put(self, key: str, data: bytes) -> None:
        if self.left[0][0] == 0:
            raise StoreUnavailable("the storage is away")
        self.left[0][0] -= 1
        super().put(key, data)


@pytest.mark.parametrize("artefacts", [0, 2])
def test_storage_that_fails_halfway_is_made_good_later(
    store: LocalStore, tmp_path: Path, artefacts: int
) -> None:
    failing = Failing(store.uri, ([artefacts],))
    with pytest.raises(TrackingUnavailable, match="the storage is away"):
        open_tracker(config_at(store.uri), failing).log_round(RECORD)
    tracker = open_tracker(config_at(store.uri), store)
    tracker.log_round(RECORD)
    assert_whole(look(tracker.uri), tmp_path / "files")


def log_and_die(config: Config, store: Store, method: str, when: str) -> None:
    """Log a round in a process that is killed right before or after it calls a method of MLflow."""
    import mlflow

    kept = getattr(mlflow.MlflowClient, method)

    def killed(*args: Any, **kwargs: Any) -> None:
        if when == "after":
            kept(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(mlflow.MlflowClient, method, killed)
    open_tracker(config, store).log_round(RECORD)


@pytest.mark.parametrize(
    ("method", "when"),
    [
        ("create_run", "after"),
        ("log_batch", "after"),
        ("create_model_version", "after"),
        ("set_registered_model_alias", "before"),
        ("set_terminated", "after"),
    ],
)
def test_a_killed_process_is_made_good_by_the_next(
    store: LocalStore, tmp_path: Path, method: str, when: str
) -> None:
    config = config_at(store.uri)
    process = multiprocessing.get_context("fork").Process(
        target=log_and_die, args=(config, store, method, when)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    tracker = open_tracker(config, store)
    tracker.log_round(RECORD)
    assert_whole(look(tracker.uri), tmp_path / "files")


# --------------------------------------------------------------------------------------------------------- S3


@pytest.fixture
def s3_store(s3_bucket: str, empty_store: bytes) -> Store:
    store = open_store(f"{s3_bucket}/projects/digits", config_at("unused").storage)
    store.put(MLFLOW_DATABASE, empty_store)
    return store


def brought_home(store: Store, folder: Path) -> str:
    path = folder / "looked-at.db"
    path.write_bytes(store.get(MLFLOW_DATABASE))
    return f"sqlite:///{path}"


@pytest.mark.s3
def test_on_s3_the_database_and_the_artefacts_lie_in_the_workspace(s3_store: Store, tmp_path: Path) -> None:
    config = config_at(s3_store.uri)
    logged = open_tracker(config, s3_store).log_round(RECORD)
    assert open_tracker(config, s3_store).log_round(RECORD) == logged
    seen = look(brought_home(s3_store, tmp_path))
    assert seen.rounds[0].info.artifact_uri.startswith(f"{s3_store.uri}/mlflow/artifacts/")
    assert_whole(seen, tmp_path / "files")


@pytest.mark.s3
def test_on_s3_a_round_at_work_shows_nothing(s3_store: Store, tmp_path: Path) -> None:
    before = s3_store.get(MLFLOW_DATABASE)
    open_tracker(config_at(s3_store.uri), s3_store).progress(0, {"scored": 1.0}, 1)
    assert s3_store.get(MLFLOW_DATABASE) == before


@pytest.mark.s3
def test_two_writers_on_s3_do_not_overwrite_each_other(s3_store: Store, tmp_path: Path) -> None:
    config = config_at(s3_store.uri)
    tracker = open_tracker(config, s3_store)
    with pytest.raises(TrackingUnavailable, match="somebody else"), tracker._session() as session:
        open_tracker(config, s3_store).log_round(RECORD)
        session.client.create_run(session.experiment_id)
        session.save()
    tracker.log_round(RECORD)
    assert_whole(look(brought_home(s3_store, tmp_path)), tmp_path / "files")


@pytest.mark.s3
def test_a_bucket_that_is_gone_is_tracking_unavailable(s3_store: Store) -> None:
    gone = open_store("s3://no-such-bucket/x", config_at("unused").storage)
    with pytest.raises(TrackingUnavailable, match="NoSuchBucket"):
        open_tracker(config_at(gone.uri), gone).log_round(RECORD)


# --------------------------------------------------------------------------------------------- other stores


@pytest.fixture
def server(tmp_path: Path, empty_store: bytes) -> Iterator[str]:
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "server.db").write_bytes(empty_store)
    with mlflow_server(folder) as running:
        yield running.url.replace("//", "//ann:s3cret@")


def test_a_server_takes_the_same_record_in_silence(
    server: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = config_at(f"{tmp_path}/digits", uri=server)
    tracker = open_tracker(config, LocalStore(f"{tmp_path}/digits"))
    logged = tracker.log_round(RECORD)
    assert tracker.log_round(RECORD) == logged
    assert_whole(look(server), tmp_path / "files")
    for step in (10, 20, 20):
        tracker.progress(1, {"scored": float(step)}, step)
    seen = look(server)
    assert live(seen, seen.rounds[1]) == {"live/scored": [(10, 10.0), (20, 20.0)]}
    assert tracker.log_round(replace(RECORD, index=1)).run_id == seen.rounds[1].info.run_id
    assert not (tmp_path / "digits/mlflow").exists()
    assert capfd.readouterr() == ("", "")


def test_a_server_that_is_not_there_is_said_quickly_and_without_its_password(tmp_path: Path) -> None:
    with socket.socket() as reserved:  # bound and never listening: every connection is refused
        reserved.bind(("127.0.0.1", 0))
        uri = f"http://ann:s3cret@127.0.0.1:{reserved.getsockname()[1]}"
        tracker = open_tracker(config_at(str(tmp_path), uri=uri), LocalStore(str(tmp_path)))
        started = time.monotonic()
        with pytest.raises(TrackingUnavailable) as raised:
            tracker.log_round(RECORD)
    assert time.monotonic() - started < 15
    assert isinstance(raised.value, SystemFault)
    assert "127.0.0.1" in str(raised.value)
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_work_goes_on_while_a_server_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LAST_WORD_S", 60.0)  # so that the line is there to look at
    sink = io.StringIO()
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        uri = f"http://ann:s3cret@127.0.0.1:{reserved.getsockname()[1]}"
        tracker = open_tracker(config_at(str(tmp_path), uri=uri), LocalStore(str(tmp_path)))
        speaker = progress.Voice(Console(file=sink, soft_wrap=True))
        with speaker.counting("scoring", 10, publish=partial(tracker.progress, 0)) as counter:
            for _ in range(10):
                counter.add(1)
    assert counter.done == 10
    (line,) = [line for line in sink.getvalue().splitlines() if "live numbers" in line]
    assert "127.0.0.1" in line
    assert "s3cret" not in line


def test_a_database_that_is_none_is_said_quickly(tmp_path: Path) -> None:
    path = tmp_path / "torn.db"
    path.write_bytes(b"no database" * 1000)
    tracker = open_tracker(config_at(str(tmp_path), uri=f"sqlite:///{path}"), LocalStore(str(tmp_path)))
    started = time.monotonic()
    with pytest.raises(TrackingUnavailable, match="not a database"):
        tracker.log_round(RECORD)
    assert time.monotonic() - started < 15
    tracker.warm()  # leaves it to log_round to say so


def test_two_projects_share_a_database_without_sharing_runs_or_models(
    tmp_path: Path, empty_store: bytes
) -> None:
    (tmp_path / "shared.db").write_bytes(empty_store)
    uri = f"sqlite:///{tmp_path}/shared.db"
    trackers = [
        open_tracker(config_at(f"{tmp_path}/{who}/digits", uri=uri), LocalStore(f"{tmp_path}/{who}/digits"))
        for who in ("ann", "bob")
    ]
    first, second = (tracker.log_round(RECORD) for tracker in trackers)
    assert first.parent_run_id != second.parent_run_id
    assert first.model_version == second.model_version == 1
    assert trackers[0].model_name != trackers[1].model_name
    client = look_at(uri)
    for logged in (first, second):
        assert files(client, logged.run_id, tmp_path / logged.run_id).keys() > RECORD.artefacts.keys()


# -------------------------------------------------------------------------------------------------- manners


def test_the_first_store_is_made_whole_and_in_silence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = LocalStore(str(tmp_path / "what?"))  # a name that no SQLite URI can hold
    tracker = open_tracker(config_at(store.uri), store)
    warming = threading.Thread(target=tracker.warm)
    warming.start()
    logged = tracker.log_round(RECORD)
    warming.join()
    assert tracker.log_round(RECORD) == logged
    assert sorted(entry.key for entry in store.list("mlflow/mlflow")) == [MLFLOW_DATABASE]
    assert capfd.readouterr() == ("", "")


def test_mlflow_is_imported_at_first_use_only() -> None:
    for room in (mlflow_session, tracking, tracking_database, tracking_keys):
        assert room.__file__
        body = ast.parse(Path(room.__file__).read_text(encoding="utf-8")).body
        froms = {node.module for node in body if isinstance(node, ast.ImportFrom)}
        names = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
        assert not [name for name in froms | names if name and name.startswith(("mlflow", "sqlalchemy"))]


def test_keys_are_legal_distinct_and_stable() -> None:
    assert key("labels", "cat") == "labels/cat"
    names = ["a/b", "a_b", "a*b", "a?b", "", ".", "..", "x" * 300, "x" * 301, "y" * 250]
    keys = [key("labels", name) for name in names]
    assert len(set(keys)) == len(names)
    assert all(len(k) <= MAX_KEY_CHARS for k in keys)
    assert [key(*k.split("/")) for k in keys] == keys


def test_config_params_are_flat_and_hold_no_password() -> None:
    params = config_params(config_at("/w", uri="postgresql://ann:s3@cret@db/mlflow"))
    assert params["train/lr"] == "0.1"
    assert params["taxonomy"] == '["cat","dog"]'
    assert params["tracking/uri"] == "postgresql://***@db/mlflow"
    assert mask("see https://u:p@h/x and s3://bucket/key") == "see https://***@h/x and s3://bucket/key"
