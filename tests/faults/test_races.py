"""Who gets the lease of those who want it at once, and what somebody can still do who has lost it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.errors import LeaseHeld
from pipeline.store.opening import Store
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.lease import Guarded, Lease

ROOT = Path(__file__).parents[2]
RACES = 100

# Waits for "PLACE INSTANT", tries at that instant, tells its fence or "held", and leaves when the next line comes.
RACER = """
import sys, time
from pipeline.config.sections import Storage
from pipeline.errors import LeaseHeld
from pipeline.store.opening import open_store
from pipeline.workspace.lease import Lease
print("here", flush=True)
for line in sys.stdin:
    place, instant = line.split("\\t")
    lease = Lease(open_store(place, Storage()))
    while time.time() < float(instant):
        pass
    try:
        with lease:
            print(lease.fence, flush=True)
            sys.stdin.readline()
    except LeaseHeld:
        print("held", flush=True)
        sys.stdin.readline()
    print("left", flush=True)
"""

# Holds a short lease, and writes when it is told to.
SLEEPER = """
import sys
from pipeline.config.sections import Storage
from pipeline.errors import LeaseHeld
from pipeline.workspace.lease import Guarded
from pipeline.store.opening import open_store
from pipeline.workspace.lease import Lease
store = open_store(sys.argv[1], Storage())
try:
    with Lease(store, ttl_s=3.0) as lease:
        mine = Guarded(store, lease)
        mine.put("round", b"first")
        print("taken", flush=True)
        sys.stdin.readline()
        mine.put("round", b"late")
except LeaseHeld as error:
    sys.exit(error.exit_code)
"""


@contextmanager
def script(text: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process of its own, with its own clients; killed in the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", text, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_of_a_hundred_races_each_has_one_winner(store: Store) -> None:
    """New leases and given-back ones in turn; on S3 by conditional writes alone."""
    with script(RACER) as one, script(RACER) as two:
        racers = (one, two)
        assert [hear(racer) for racer in racers] == ["here", "here"]
        wins = [0, 0]
        for race in range(RACES):
            instant = time.time() + 0.02
            for racer in racers:
                tell(racer, f"{store.uri}/{race // 2}\t{instant}")
            found = [hear(racer) for racer in racers]
            assert sorted(found) == [str(race % 2 + 1), "held"], f"race {race}"
            wins[found[0] == "held"] += 1
            for racer in racers:
                tell(racer, "leave")
            assert [hear(racer) for racer in racers] == ["left", "left"]
    print(f"{RACES} races, won by the first and the second: {wins}")


def test_a_process_stopped_past_its_lease_changes_nothing(store: Store) -> None:
    with script(SLEEPER, store.uri) as sleeper:
        assert hear(sleeper) == "taken"
        sleeper.send_signal(signal.SIGSTOP)
        while True:  # a stopped process lives: only the expiry lets anybody in
            try:
                with Lease(store) as lease:
                    assert lease.fence == 2
                    Guarded(store, lease).put("round", b"second")
                    tell(sleeper, "go on")
                    sleeper.send_signal(signal.SIGCONT)
                    assert sleeper.wait() == LeaseHeld.exit_code
                break
            except LeaseHeld:
                time.sleep(0.1)
    assert store.get("round") == b"second"


def test_a_guarded_store_is_the_bare_one_to_read_and_to_workers(store: Store) -> None:
    with Lease(store) as lease:
        guarded = Guarded(store, lease)
        workspace = Workspace(guarded)
        workspace.write_json("a/x.json", [1])
        assert guarded.put_if_absent("a/y", b"y") and not guarded.put_if_absent("a/y", b"z")
        data, tag = guarded.get_tagged("a/y")
        assert guarded.put_if_match("a/y", data + b"!", tag)
        guarded.delete("a/x.json")
        assert [entry.key for entry in guarded.list("a/")] == ["a/y"]
        assert not guarded.exists("a/x.json")
        with guarded.open("a/y") as file:
            assert file.read() == guarded.get("a/y") == b"y!"
        assert (guarded.uri, guarded.url("a")) == (store.uri, store.url("a"))
        assert pickle.loads(pickle.dumps(workspace)) == Workspace(store)
    lease._lost = "taken over"
    for write in (
        lambda: guarded.put("a/y", b"late"),
        lambda: guarded.put_if_absent("a/new", b"late"),
        lambda: guarded.put_if_match("a/y", b"late", guarded.get_tagged("a/y")[1]),
        lambda: guarded.delete("a/y"),
    ):
        with pytest.raises(LeaseHeld):
            write()
    assert [(entry.key, store.get(entry.key)) for entry in store.list("a/")] == [("a/y", b"y!")]
