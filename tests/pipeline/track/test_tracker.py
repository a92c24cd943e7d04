"""Tracking with the real MLflow: disk, server, no server, calls that are cut off."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline import voice as progress
from pipeline.config.project import Config
from pipeline.errors import StoreUnavailable, SystemFault
from pipeline.store.opening import LocalStore, Store
from pipeline.track.database import TrackingUnavailable
from pipeline.track.tracker import open_tracker
from tests.support.mlflow_records import RECORD, assert_whole, config_at, files, history, live, look, look_at
from tests.support.mlflow_server import mlflow_server

# ------------------------------------------------------------------------------------------- one round, again

pytestmark = pytest.mark.usefixtures("patient_mlflow")


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


def test_a_round_without_a_model_has_no_version(store: LocalStore) -> None:
    tracker = open_tracker(config_at(store.uri), store)
    assert tracker.log_round(replace(RECORD, model={})).model_version is None
    assert look(tracker.uri).versions == []


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
    process.join()
    assert process.exitcode == -signal.SIGKILL
    tracker = open_tracker(config, store)
    tracker.log_round(RECORD)
    assert_whole(look(tracker.uri), tmp_path / "files")


# --------------------------------------------------------------------------------------------- other stores


@pytest.fixture
def server(tmp_path: Path, empty_store: bytes) -> Iterator[str]:
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "server.db").write_bytes(empty_store)
    with mlflow_server(folder) as running:
        yield running.url.replace("//", "//ann:s3cret@")


@pytest.mark.slow
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


def test_a_server_that_is_not_there_is_said_quickly_and_without_its_password(
    tmp_path: Path, slept: list[float]
) -> None:
    with socket.socket() as reserved:  # bound and never listening: every connection is refused
        reserved.bind(("127.0.0.1", 0))
        uri = f"http://ann:s3cret@127.0.0.1:{reserved.getsockname()[1]}"
        tracker = open_tracker(config_at(str(tmp_path), uri=uri), LocalStore(str(tmp_path)))
        with pytest.raises(TrackingUnavailable) as raised:
            tracker.log_round(RECORD)
    assert sum(slept) < 15
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
