"""An MLflow server that dies, hangs, drips, refuses, is full, or answers into the void."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.store.opening import LocalStore
from pipeline.track import tracker as tracking
from pipeline.track.database import TrackingUnavailable
from pipeline.track.session import RoundRecord
from pipeline.track.tracker import Tracker, open_tracker
from tests.faults.ground import tracked
from tests.support.fault_proxy import FaultProxy, Rule
from tests.support.mlflow_records import config_at
from tests.support.mlflow_server import MlflowServer, mlflow_server

RECORD = RoundRecord(
    index=0,
    params={f"group/p{n}": str(n) for n in range(120)},
    metrics={"test_accuracy": 0.5, "r_avg": 0.7, "seconds/train": 1.5},
    artefacts={"query.parquet": b"query", "plots/scores.png": b"plot"},
    model={"model.safetensors": b"weights" * 1000, "model.json": b"{}"},
    best=True,
)
WHOLE = {
    "runs": [(None, "FINISHED"), ("000", "FINISHED")],
    "versions": [(1, "000")],
    "aliases": [("champion", 1)],
    "twice": [],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch, patient_mlflow: None) -> None:
    """The same manners, without pauses before the next try."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")


def tracker_at(url: str, folder: Path) -> Tracker:
    """Of a project with an experiment of its own, so that tests may share a server."""
    config = config_at(str(folder), uri=url, experiment=folder.name)
    return open_tracker(config, LocalStore(str(folder)))


def known(server: MlflowServer, folder: Path) -> dict[str, object]:
    """What the server holds of a project, however many runs were made and taken back."""
    return tracked(server.database.read_bytes(), folder.name)


@pytest.mark.parametrize(
    ("kind", "request_"),
    [
        ("lost", "experiments/create"),
        ("lost", "runs/create"),
        ("lost", "runs/log-batch"),
        ("lost", "model-versions/create"),
        ("lost", "alias"),
        ("reset", "runs/update"),
        ("500", "runs/create"),
    ],
)
def test_answers_that_are_lost_make_nothing_twice(
    server: MlflowServer, tmp_path: Path, kind: str, request_: str
) -> None:
    rules = [Rule(kind, holds=request_, first=1)]  # type: ignore[arg-type]
    with FaultProxy(server.url, rules) as line:
        tracker = tracker_at(line.url, tmp_path)
        try:
            logged = tracker.log_round(RECORD)
        except TrackingUnavailable:
            logged = tracker.log_round(RECORD)
        assert line.faults[kind] > 0
    assert tracker_at(server.url, tmp_path)._project  # another address is the same project
    assert known(server, tmp_path) == WHOLE
    assert tracker_at(server.url, tmp_path).log_round(RECORD) == logged
    assert known(server, tmp_path) == WHOLE


def test_an_outage_in_the_middle_is_made_good_in_the_same_run(server: MlflowServer, tmp_path: Path) -> None:
    """From the n-th request on nothing gets through any more, for every n: then it is logged again, to the end."""
    with FaultProxy(server.url) as line:
        tracker = tracker_at(line.url, tmp_path)
        tracker.progress(0, {"scored": 1.0}, 1)  # the round is at work
        needed = 0
        while True:
            over = threading.Event()
            line.rules = []
            before = sum(line.requests.values())
            stopper = threading.Thread(target=_after, args=(line, before + needed, over), daemon=True)
            stopper.start()
            try:
                tracker.log_round(RECORD)
                break
            except TrackingUnavailable:
                needed += 6
            finally:
                over.set()
                stopper.join()
        assert needed > 6, "it was cut off at several places"
    seen = known(server, tmp_path)
    assert seen == WHOLE


def _after(line: FaultProxy, count: int, over: threading.Event) -> None:
    """Break a line after so many requests, or never if they do not come before all is over."""
    while not over.wait(0.001):
        if sum(line.requests.values()) >= count:
            line.rules = [Rule("reset")]
            return


class Mute:
    """Takes connections and says nothing, or a byte of an endless answer now and then."""

    def __init__(self, *, dripping: bool) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._dripping = dripping
        self._open: list[socket.socket] = []
        self.taken = threading.Event()
        self.url = f"http://ann:s3cret@127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                taken, _ = self._socket.accept()
            except OSError:
                return
            self._open.append(taken)
            self.taken.set()
            if self._dripping:
                threading.Thread(target=self._drip, args=(taken,), daemon=True).start()

    @staticmethod
    def _drip(taken: socket.socket) -> None:
        try:
            taken.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
            )
            while True:
                taken.sendall(b" ")
                time.sleep(0.2)
        except OSError:
            return

    def close(self) -> None:
        """No more connections."""
        self._socket.close()
        for taken in self._open:
            taken.close()


@pytest.mark.parametrize("dripping", [False, True])
def test_a_server_that_hangs_is_not_waited_for(
    tmp_path: Path, dripping: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "GIVE_UP_S", 4.0)
    mute = Mute(dripping=dripping)
    with pytest.raises(TrackingUnavailable, match="took longer than 4 s") as raised:
        tracker_at(mute.url, tmp_path).log_round(RECORD)
    assert mute.taken.wait()
    mute.close()
    assert "127.0.0.1" in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_a_server_that_only_fails_is_told_again_later(server: MlflowServer, tmp_path: Path) -> None:
    with FaultProxy(server.url, [Rule("500")]) as line:
        tracker = tracker_at(line.url, tmp_path)
        with pytest.raises(TrackingUnavailable, match="500"):
            tracker.log_round(RECORD)
        line.rules = []
        tracker.log_round(RECORD)
    assert known(server, tmp_path) == WHOLE


def test_the_alias_is_that_of_the_last_round_after_an_outage(server: MlflowServer, tmp_path: Path) -> None:
    """Round 1 was kept while the server was away, round 2 got through, then round 1 is sent."""
    tracker = tracker_at(server.url, tmp_path)
    for index in (0, 2, 1):
        tracker.log_round(replace(RECORD, index=index))
    found = known(server, tmp_path)
    assert found["versions"] == [(1, "000"), (2, "002"), (3, "001")]
    assert found["aliases"] == [("champion", 2)], "the last committed round's"


@pytest.mark.faults
def test_a_full_disk_is_no_end(tmp_path: Path) -> None:
    full = MlflowServer(tmp_path / "mlflow")
    try:
        full.start()
        tracker = tracker_at(full.url, tmp_path / "project")
        tracker.progress(0, {"scored": 1.0}, 1)
        full.kill()
        full.start(most_bytes=full.database.stat().st_size)
        with pytest.raises(TrackingUnavailable):
            tracker.log_round(RECORD)
        full.kill()
        full.start()
        tracker.log_round(RECORD)
        assert known(full, tmp_path / "project") == WHOLE
    finally:
        full.kill()
