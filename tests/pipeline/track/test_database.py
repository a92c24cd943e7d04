"""MLflow's database: on S3, damaged, and made for the first time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipeline.store.opening import LocalStore, Store, open_store
from pipeline.track.database import TrackingUnavailable
from pipeline.track.tracker import open_tracker
from pipeline.workspace.keys import MLFLOW_DATABASE
from tests.support.mlflow_records import RECORD, assert_whole, config_at, look

pytestmark = pytest.mark.usefixtures("patient_mlflow")


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


def test_a_database_that_is_none_is_said_quickly(tmp_path: Path, slept: list[float]) -> None:
    path = tmp_path / "torn.db"
    path.write_bytes(b"no database" * 1000)
    tracker = open_tracker(config_at(str(tmp_path), uri=f"sqlite:///{path}"), LocalStore(str(tmp_path)))
    with pytest.raises(TrackingUnavailable, match="not a database"):
        tracker.log_round(RECORD)
    assert sum(slept) < 15
    tracker.warm()  # leaves it to log_round to say so


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
