"""An MLflow store on disk, made once and copied."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from pipeline.store.opening import LocalStore, open_store
from pipeline.track.tracker import open_tracker
from pipeline.workspace.keys import MLFLOW_DATABASE
from tests.support.mlflow_records import config_at


@pytest.fixture(scope="session")
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
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that anybody here sleeps, by choice and not for want of a processor."""
    seen: list[float] = []
    real = time.sleep

    def sleep(seconds: float) -> None:
        seen.append(seconds)
        real(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    return seen


@pytest.fixture
def store(tmp_path: Path, empty_store: bytes) -> LocalStore:
    store = LocalStore(str(tmp_path / "work space #1"))
    store.put(MLFLOW_DATABASE, empty_store)
    return store
