"""The lease on a workspace: one writer at a time.

`Guarded` is a store that only the lease's holder can write to.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import pyarrow as pa

from pipeline.encoding import canonical, to_json
from pipeline.errors import LeaseHeld, PipelineError
from pipeline.store.base import Entry
from pipeline.store.opening import Store
from pipeline.workspace.keys import LEASE


class Lease:
    """Context manager that takes, renews and releases the lease.

    One writer at a time. A lease that has run out, or whose owner is known to be dead (same machine, process gone), is
    taken over. Each taking raises `fence`. A lease that could not be renewed in time counts as lost, whether or not
    another run took it.
    """

    def __init__(self, store: Store, *, ttl_s: float = 60.0) -> None:
        self._store = store
        self._ttl_s = ttl_s
        self._owner = uuid.uuid4().hex
        self._tag = ""
        self._expires = 0.0
        self._stop = threading.Event()
        self._writing = threading.Lock()
        self._lost: str | None = None
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self.fence = 0

    def __enter__(self) -> Lease:
        self._take()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._lost is None:
            # Expired rather than deleted: the fence must go on rising, whoever comes next. Where storage is away,
            # the lease runs out by itself: no reason to hide what ended the work.
            with contextlib.suppress(PipelineError):
                self._store.put_if_match(LEASE, self._record(expires=0.0), self._tag)

    def hold(self) -> None:
        """Renew the lease now.

        Called before every commit, so that the commit falls within a lease that was ours a moment ago.

        Raises:
            LeaseHeld: the lease was lost before, or just now: another run's fence has passed ours.
            StoreUnavailable: storage does not answer, so it is not known whether the lease is ours.
        """
        self.check()
        with self._writing:
            if not self._write(lambda record: self._store.put_if_match(LEASE, record, self._tag)):
                self._lost = "taken over"
        self.check()

    def check(self) -> None:
        """Raise `LeaseHeld` when the lease is known to be lost."""
        lost = self._lost
        if lost is None and time.time() >= self._expires:  # a process that was stopped has not noticed yet
            lost = "not renewed in time"
        if lost is not None:
            raise LeaseHeld(
                f"{self._store.uri}: the lease was lost ({lost}); another run may be working here"
            )

    def _record(self, expires: float) -> bytes:
        return to_json(
            {
                "owner": self._owner,
                "fence": self.fence,
                "expires": expires,
                "host": _host(),
                "hostname": socket.gethostname(),
                "pid": os.getpid(),
                "pid_started": psutil.Process().create_time(),
            }
        )

    def _take(self) -> None:
        self.fence = 1
        if self._write(lambda record: self._store.put_if_absent(LEASE, record)):
            return
        data, tag = self._store.get_tagged(LEASE)
        held = lease_record(data)
        if in_force(held):
            left = held["expires"] - time.time()
            raise LeaseHeld(
                f"{self._store.uri}: another run works here (process {held['pid']} on {held['hostname']}); "
                f"its lease runs out in {left:.0f} s unless renewed"
            )
        self.fence = held["fence"] + 1
        if not self._write(lambda record: self._store.put_if_match(LEASE, record, tag)):
            raise LeaseHeld(f"{self._store.uri}: another run took the lease just now")

    def _write(self, put: Callable[[bytes], bool]) -> bool:
        """Put a record that holds from now on.

        Returns whether the lease is ours by it.
        """
        expires = time.time() + self._ttl_s
        record = self._record(expires)
        if not put(record):
            return False
        stored, tag = self._store.get_tagged(LEASE)
        if stored != record:  # this process slept past its own expiry between the two calls
            return False
        self._tag, self._expires = tag, expires
        return True

    def _renew(self) -> None:
        while not self._stop.wait(self._ttl_s / 4):
            try:
                with self._writing:
                    if not self._write(lambda record: self._store.put_if_match(LEASE, record, self._tag)):
                        self._lost = "taken over"
                        return
            except PipelineError as error:  # storage may come back before the lease runs out
                if time.time() >= self._expires:
                    self._lost = f"not renewed: {error}"
                    return


def lease_record(data: bytes) -> dict[str, Any]:
    """Parse a lease as it was written.

    One that cannot be read counts as run out, with fence 0.
    """
    nobody = {"expires": 0.0, "fence": 0, "host": "", "hostname": "", "pid": 0, "pid_started": 0.0}
    with contextlib.suppress(ValueError):
        record = json.loads(data)
        if isinstance(record, dict) and all(type(record.get(name)) is type(nobody[name]) for name in nobody):
            return record
    return nobody


def in_force(held: Mapping[str, Any]) -> bool:
    """Return whether a lease record still keeps other runs out.

    It does if it has not run out and its owner is not known to be dead.
    """
    return bool(held["expires"] > time.time()) and not _dead(held)


# Two processes may see one start time differently, by as much as the clock was set meanwhile. Taking a living owner
# for dead would let two writers in; taking a dead one for living only costs the wait for its expiry.
_SAME_START_S = 60.0


def _dead(held: Mapping[str, Any]) -> bool:
    """Return whether the owner ran on this machine and is gone.

    Then nobody needs to wait for the expiry.
    """
    if held["host"] != _host():
        return False
    try:
        process = psutil.Process(held["pid"])
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        return bool(abs(process.create_time() - held["pid_started"]) > _SAME_START_S)
    except psutil.NoSuchProcess:
        return True


@functools.cache
def _host() -> str:
    """Identify this machine and its space of process ids.

    By boot and pid namespace, not by the name alone.
    """
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/self/ns/pid").readlink().as_posix())
    return hashlib.sha256(canonical(parts)).hexdigest()[:16]


# ------------------------------------------------------------------------------------------------- writing


@dataclass(frozen=True)
class Guarded:
    """A store whose writes need the lease.

    Each write first checks that the lease still holds, which costs no request, and raises `LeaseHeld` if not. Otherwise
    a process that was stopped past its lease and goes on would write what it had in hand into another run's round.
    Pickled, it is the bare store: workers do what a driver asked for while it held the lease.
    """

    bare: Store
    lease: Lease

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self.bare,)

    @property
    def uri(self) -> str:
        """The place of the objects."""
        return self.bare.uri

    def get(self, key: str, *, etag: str | None = None) -> bytes:
        """See `Store`."""
        return self.bare.get(key, etag=etag)

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        """See `Store`."""
        return self.bare.get_tagged(key)

    def exists(self, key: str) -> bool:
        """See `Store`."""
        return self.bare.exists(key)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """See `Store`."""
        return self.bare.list(prefix)

    def open(self, key: str, **how: Any) -> pa.NativeFile:
        """See `Store`."""
        return self.bare.open(key, **how)

    def url(self, key: str) -> str:
        """See `Store`."""
        return self.bare.url(key)

    def put(self, key: str, data: bytes) -> None:
        """See `Store`."""
        self.lease.check()
        self.bare.put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See `Store`."""
        self.lease.check()
        return self.bare.put_if_absent(key, data)

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        """See `Store`."""
        self.lease.check()
        return self.bare.put_if_match(key, data, etag)

    def delete(self, key: str) -> None:
        """See `Store`."""
        self.lease.check()
        self.bare.delete(key)


def _itself(store: Store) -> Store:
    return store
