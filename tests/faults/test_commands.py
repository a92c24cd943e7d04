"""Whole commands that race, sleep past their lease, or lose their MLflow server: minutes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.store.opening import Store
from pipeline.workspace.keys import LEASE
from tests.faults.ground import Ground, grounds, tracked
from tests.faults.victims import sweep
from tests.support.fault_proxy import FaultProxy, Rule
from tests.support.mlflow_server import MlflowServer, mlflow_server
from tests.support.progress_wait import finished, until

pytestmark = [pytest.mark.ray, pytest.mark.faults]

PASSWORD = "canary-b7e21f"


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    folder = Path(tempfile.mkdtemp(prefix="sf-", dir="/tmp"))
    with grounds([request.param], folder, rounds=3) as (place,):
        yield place
        for home in folder.glob(f"{place.kind[0]}*"):
            sweep(home)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def local() -> Iterator[Ground]:
    folder = Path(tempfile.mkdtemp(prefix="sf-", dir="/tmp"))
    with grounds(["local"], folder, rounds=1) as (place,):
        yield place
        for home in folder.glob("l*"):
            sweep(home)
    shutil.rmtree(folder, ignore_errors=True)


def start(ground: Ground, name: str, verb: str, *sets: str) -> subprocess.Popen[str]:
    words = [word for text in sets for word in ("--set", text)]
    return subprocess.Popen(
        [*ground.command(name, verb), *words],
        cwd=ground.folder,
        env=ground.environment(name),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(ground: Ground, process: subprocess.Popen[str]) -> tuple[int, str]:
    told = finished(process, folders=[ground.folder])[1]
    return process.returncode, told


def below(store: Store, *tops: str) -> dict[str, bytes]:
    return {entry.key: store.get(entry.key) for top in tops for entry in store.list(top)}


def test_of_two_ticks_at_once_one_works(ground: Ground) -> None:
    store = ground.store("ticks")
    for index in range(ground.rounds):
        found = [ended(ground, tick) for tick in [start(ground, "ticks", "tick") for _ in range(2)]]
        assert sorted(status for status, _ in found) == [0, 4], found
        (held,) = [told for status, told in found if status == 4]
        assert "another run" in held and "Traceback" not in held
        committed = [entry.key for entry in store.list("rounds/") if entry.key.endswith("/round.json")]
        assert committed == [f"rounds/{i:03d}/round.json" for i in range(index + 1)]
        assert json.loads(store.get(f"rounds/{index:03d}/commit.json"))["fence"] == index + 1
    status, told = ended(ground, start(ground, "ticks", "tick"))
    assert status == 0 and "nothing to do" in told


def test_of_a_hundred_pairs_of_ticks_each_has_one_winner(ground: Ground) -> None:
    """The loser says so and leaves; the winner, which has begun a round, is killed: there are a hundred."""

    def race(number: int) -> None:
        name = f"race{number:03d}"
        ticks = [start(ground, name, "tick") for _ in range(2)]
        first, second = ticks
        until(lambda: first.poll() is not None or second.poll() is not None, first, folders=[ground.folder])
        (loser,) = [tick for tick in ticks if tick.poll() is not None]
        (winner,) = [tick for tick in ticks if tick is not loser]
        status, told = ended(ground, loser)
        assert status == 4 and "another run works here" in told, told
        held = json.loads(ground.store(name).get(LEASE))
        assert held["fence"] == 1 and winner.poll() is None
        os.killpg(winner.pid, signal.SIGKILL)
        winner.communicate()
        sweep(ground.home(name), patience_s=0.1)

    with ThreadPoolExecutor(3) as pairs:
        list(pairs.map(race, range(100)))


def test_a_driver_that_slept_past_its_lease_can_commit_nothing(ground: Ground) -> None:
    store = ground.store("sleeper")
    sleeper = start(ground, "sleeper", "run", "rounds=1")
    until(lambda: store.exists("rounds/000/slopes.json"), sleeper, folders=[ground.folder], pause_s=0.1)
    os.kill(sleeper.pid, signal.SIGSTOP)
    try:
        status, told = ended(ground, start(ground, "sleeper", "run", "rounds=1"))
        assert status == 4, told
        while json.loads(store.get(LEASE))["expires"] > time.time():
            time.sleep(0.5)
        status, told = ended(ground, start(ground, "sleeper", "run", "rounds=1"))
        assert status == 0, told
        before = below(store, "rounds/", "labels/", LEASE)
        assert json.loads(before["rounds/000/commit.json"])["fence"] == 2
    finally:
        os.kill(sleeper.pid, signal.SIGCONT)
    status, told = ended(ground, sleeper)
    assert status == 4 and "the lease was lost" in told and "Traceback" not in told, told
    assert below(store, "rounds/", "labels/", LEASE) == before


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path / "mlflow") as running:
        yield running


def test_a_server_killed_while_a_round_scores_is_told_by_the_next_run(
    local: Ground, server: MlflowServer
) -> None:
    store = local.store("w")
    uri = "tracking.uri=" + server.url.replace("//", f"//ann:{PASSWORD}@")
    work = start(local, "w", "run", uri)
    begun = lambda: any(True for _ in store.list("rounds/000/parts/"))  # noqa: E731
    until(begun, work, folders=[local.folder], pause_s=0.1)
    server.kill()
    status, told = ended(local, work)
    assert status == 0 and store.exists("rounds/000/round.json"), told
    assert "tracking  not now" in told and not store.exists("rounds/000/tracking.json"), told
    round_ = below(store, "rounds/000/")

    server.start()
    words = [told]
    for again in range(2):
        status, told = ended(local, start(local, "w", "run", uri))
        assert status == 0 and "nothing to do" in told, told
        words.append(told)
        assert tracked(server.database.read_bytes()) == {
            "runs": [(None, "FINISHED"), ("000", "FINISHED")],
            "versions": [(1, "000")],
            "aliases": [("champion", 1)],
            "twice": [],
        }, again
    after = below(store, "rounds/000/")
    assert after.pop("rounds/000/tracking.json")
    assert after == round_
    for path in [*local.folder.rglob("*"), *server.database.parent.rglob("*")]:
        if path.is_file() and not path.is_symlink():
            assert PASSWORD.encode() not in path.read_bytes(), path
    assert PASSWORD not in "".join(words)


def test_a_server_that_begins_to_hang_holds_nobody_up(local: Ground, server: MlflowServer) -> None:
    store = local.store("w")
    with FaultProxy(server.url) as line:
        work = start(local, "w", "run", f"tracking.uri={line.url}")
        until(lambda: store.exists("rounds/000/bank.safetensors"), work, folders=[local.folder], pause_s=0.1)
        line.rules = [Rule("slow", seconds=3600)]
        status, told = ended(local, work)
        assert status == 0 and "tracking  not now" in told, told
        assert line.faults["slow"] > 0
    assert store.exists("rounds/000/round.json") and not store.exists("rounds/000/tracking.json")
