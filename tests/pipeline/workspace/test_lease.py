"""One writer at a time, whoever dies, sleeps or races."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.encoding import to_json
from pipeline.errors import LeaseHeld, StorageError, StoreUnavailable
from pipeline.store.opening import LocalStore, Store
from pipeline.workspace import lease as lease_module
from pipeline.workspace.keys import LEASE
from pipeline.workspace.lease import Lease, in_force
from tests.support.progress_wait import until

OWNER = """
import sys
from pipeline.store.local import LocalStore
from pipeline.workspace.lease import Lease
with Lease(LocalStore(sys.argv[1])):
    print("taken", flush=True)
    sys.stdin.readline()
"""


def record(store: Store) -> dict[str, Any]:
    return json.loads(store.get(LEASE))


def rewrite(store: Store, **changes: Any) -> None:
    """As another run would, between two renewals."""
    written = False
    while not written:
        data, tag = store.get_tagged(LEASE)
        written = store.put_if_match(LEASE, to_json(json.loads(data) | changes), tag)


def test_a_second_taker_is_told_who_works_here(store: Store) -> None:
    with Lease(store) as lease:
        lease.check()
        with pytest.raises(LeaseHeld, match=rf"process {os.getpid()} on .*runs out in \d+ s"), Lease(store):
            pytest.fail("two writers")
        lease.check()


def test_a_lease_given_back_lets_the_next_one_in_and_the_fence_rises(store: Store) -> None:
    fences = []
    for _ in range(3):
        with Lease(store) as lease:
            fences.append(lease.fence)
        assert not in_force(record(store))
    assert fences == [1, 2, 3]


def test_a_lease_is_given_back_when_the_work_fails(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), Lease(store):
        raise ZeroDivisionError
    assert not in_force(record(store))


def test_a_lease_that_ran_out_is_taken_over(store: Store) -> None:
    with Lease(store) as first:
        rewrite(store, host="another machine", expires=1.0, fence=41)
        with Lease(store) as second:
            assert second.fence == 42
            second.check()
        assert first.fence == 1


def test_a_lease_of_another_machine_is_waited_for(store: Store) -> None:
    with Lease(store):
        pass
    rewrite(store, host="another machine", hostname="far-away", pid=1, expires=4e9)
    with pytest.raises(LeaseHeld, match="process 1 on far-away"), Lease(store):
        pytest.fail("its owner may live")


def start_owner(folder: Path) -> subprocess.Popen[str]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "taken\n"
    return owner


@pytest.mark.parametrize("reaped", [True, False])
def test_a_dead_owner_on_this_machine_is_not_waited_for(tmp_path: Path, reaped: bool) -> None:
    store = LocalStore(str(tmp_path))
    owner = start_owner(tmp_path)
    with pytest.raises(LeaseHeld, match=f"process {owner.pid} "), Lease(store):
        pytest.fail("its owner lives")
    owner.send_signal(signal.SIGKILL)
    if reaped:
        owner.wait()
    else:  # as in a container whose first process collects no children
        until(lambda: psutil.Process(owner.pid).status() == psutil.STATUS_ZOMBIE)
    with Lease(store) as lease:
        assert lease.fence == 2
    owner.wait()


def test_a_process_id_used_again_is_not_its_owner(store: Store) -> None:
    with Lease(store):
        pass
    here = psutil.Process().create_time()
    rewrite(store, expires=4e9, pid_started=here - 86_400)
    with Lease(store) as lease:
        assert lease.fence == 2


def test_a_clock_that_was_set_kills_nobody(store: Store) -> None:
    """Linux tells start times by the clock: another process sees them differ by as much as it was set."""
    with Lease(store):
        pass
    rewrite(store, expires=4e9, pid_started=psutil.Process().create_time() - 3.0)
    with pytest.raises(LeaseHeld), Lease(store):
        pytest.fail("its owner lives")


def test_renewal_keeps_the_lease(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    with Lease(store, ttl_s=4.0) as lease:
        first = record(store)["expires"]
        until(lambda: record(store)["expires"] > first + 4.0)  # longer than one taking lasts
        lease.check()
        assert record(store)["fence"] == lease.fence == 1
        with pytest.raises(LeaseHeld), Lease(store):
            pytest.fail("two writers")


def test_a_lease_taken_over_is_noticed_and_left_alone(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    with Lease(store, ttl_s=0.2) as lease:
        rewrite(store, owner="another", fence=2, expires=4e9)
        until(lambda: not lease._thread.is_alive())
        with pytest.raises(LeaseHeld, match="the lease was lost"):
            lease.check()
    assert record(store)["owner"] == "another"
    assert record(store)["expires"] == 4e9


@dataclass(frozen=True)
class Away(LocalStore):
    """A store that answers conditional writes with the planned errors first."""

    faults: list[Exception] = field(default_factory=list)

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        if self.faults:
            raise self.faults.pop()
        return super().put_if_match(key, data, etag)


@pytest.mark.parametrize("error", [StoreUnavailable("away"), StorageError("the token has expired")])
def test_a_lease_that_can_not_be_renewed_is_lost(tmp_path: Path, error: Exception) -> None:
    store = Away(str(tmp_path))
    with Lease(store, ttl_s=0.2) as lease:
        store.faults.extend([error] * 1000)
        until(lambda: not lease._thread.is_alive())
        with pytest.raises(LeaseHeld, match=str(error)):
            lease.check()


def test_storage_that_comes_back_in_time_costs_nothing(tmp_path: Path) -> None:
    store = Away(str(tmp_path))
    with Lease(store, ttl_s=6.0) as lease:
        first = record(store)["expires"]
        store.faults.append(StoreUnavailable("away"))
        until(lambda: record(store)["expires"] > first)
        assert not store.faults
        lease.check()


def test_storage_that_fails_at_the_end_hides_nothing(tmp_path: Path) -> None:
    store = Away(str(tmp_path))
    with pytest.raises(ZeroDivisionError), Lease(store):
        store.faults.append(StoreUnavailable("away"))
        raise ZeroDivisionError


def test_a_process_that_slept_past_its_lease_may_not_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after SIGSTOP and SIGCONT: `check` may run before the renewing thread has looked."""
    store = LocalStore(str(tmp_path))
    with Lease(store) as lease:
        lease.check()
        later = record(store)["expires"] + 1.0
        monkeypatch.setattr(lease_module.time, "time", lambda: later)
        with pytest.raises(LeaseHeld, match="not renewed in time"):
            lease.check()
        monkeypatch.undo()


@dataclass(frozen=True)
class Overtaken(LocalStore):
    """A store where somebody takes over between a writer's write and its look at the tag."""

    after: list[int] = field(default_factory=list)

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        won = super().put_if_match(key, data, etag)
        if won and self.after:
            self.after.clear()
            rewrite(LocalStore(self.uri), owner="another", fence=9, expires=4e9)
        return won


def test_a_writer_does_not_take_another_ones_tag_for_its_own(tmp_path: Path) -> None:
    store = Overtaken(str(tmp_path))
    with Lease(store, ttl_s=0.2) as lease:
        store.after.append(1)
        until(lambda: not lease._thread.is_alive())
        with pytest.raises(LeaseHeld, match="taken over"):
            lease.check()
    assert record(store)["owner"] == "another"
    assert record(store)["expires"] == 4e9


def race(folder: str, gate: Any, results: Any, leave: Any) -> None:
    gate.wait()
    try:
        with Lease(LocalStore(folder)) as lease:
            results.put(lease.fence)
            leave.wait()
    except LeaseHeld:
        results.put(None)


@pytest.mark.parametrize("expired", [False, True])
def test_of_many_processes_one_gets_it(tmp_path: Path, expired: bool) -> None:
    store = LocalStore(str(tmp_path))
    if expired:
        with Lease(store):
            pass
    context = multiprocessing.get_context("fork")
    gate, results, leave = context.Barrier(8), context.Queue(), context.Event()
    racers = [context.Process(target=race, args=(str(tmp_path), gate, results, leave)) for _ in range(8)]
    for racer in racers:
        racer.start()
    found = [results.get() for _ in racers]
    leave.set()
    for racer in racers:
        racer.join()
    assert [fence for fence in found if fence is not None] == [2 if expired else 1]


def test_holding_renews_and_a_passed_fence_is_noticed_at_once(store: Store) -> None:
    with Lease(store) as lease:
        before = record(store)["expires"]
        lease.hold()
        assert record(store)["expires"] > before
        rewrite(store, owner="somebody", fence=lease.fence + 1)
        lease.check()  # nobody has looked yet
        with pytest.raises(LeaseHeld, match="taken over"):
            lease.hold()
        with pytest.raises(LeaseHeld):
            lease.check()
    assert record(store)["owner"] == "somebody"


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"expires": "soon"}', b"\xff"])
def test_a_lease_that_cannot_be_read_has_run_out(store: Store, data: bytes) -> None:
    store.put("lease.json", data)
    with Lease(store) as lease:
        assert lease.fence == 1
        with pytest.raises(LeaseHeld), Lease(store):
            pass
