"""The workspace: all state of one project under one URI, and the lease that lets one writer in.

Keys are fixed here and nowhere else. Artefacts are whole objects, written atomically; their presence is the
promise that they are finished.
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
import pyarrow.parquet as pq

from pipeline.config import Config, canonical
from pipeline.errors import ArtefactDamaged, LeaseHeld, PipelineError, UserError, WorkspaceMismatch
from pipeline.storage import Store, open_store

PROJECT = "project.json"
LEASE = "lease.json"


@dataclass(frozen=True)
class Workspace:
    """Typed reads and writes of artefacts by key."""

    store: Store

    def exists(self, key: str) -> bool:
        """Whether the artefact is finished."""
        return self.store.exists(key)

    def read_json(self, key: str) -> Any:
        """A JSON artefact; `ArtefactDamaged` if it is none."""
        data = self.store.get(key)
        with self.undamaged(key):
            return json.loads(data)

    def write_json(self, key: str, value: Any) -> None:
        """A JSON artefact, with sorted keys so that equal values are equal bytes."""
        self.store.put(key, to_json(value))

    def read_table(self, key: str, columns: list[str] | None = None) -> pa.Table:
        """A Parquet artefact; `ArtefactDamaged` if it is none."""
        with self.undamaged(key), self.store.open(key) as file:
            return pq.read_table(file, columns=columns)

    def row_groups(self, key: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """A Parquet artefact one row group after another: memory for one at a time."""
        with self.undamaged(key), self.store.open(key) as file:
            parquet = pq.ParquetFile(file, pre_buffer=True)  # on S3 a few large requests, not one a column
            for number in range(parquet.num_row_groups):
                yield parquet.read_row_group(number, columns, use_threads=False)

    def write_table(self, key: str, table: pa.Table, *, row_group_size: int | None = None) -> None:
        """A Parquet artefact, Zstandard."""
        self.store.put(key, to_parquet(table, row_group_size))

    @contextlib.contextmanager
    def undamaged(self, key: str) -> Iterator[None]:
        """Around reading an artefact: `ArtefactDamaged` for what only damaged bytes raise."""
        try:
            yield
        except (ValueError, OSError, pa.ArrowException) as error:
            url = self.store.url(key)
            damaged = ArtefactDamaged(
                f"{url} is damaged ({' '.join(str(error).split())[:200]}); remove it and what was made from it, "
                f"and run again to make it anew"
            )
            damaged.uri = url
            raise damaged from None

    def keys(self, prefix: str) -> list[str]:
        """The artefacts below a prefix, sorted."""
        return sorted(entry.key for entry in self.store.list(prefix))

    def tables(self, prefix: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The Parquet artefacts below a prefix, one after another: memory for one at a time."""
        for key in self.keys(prefix):
            if key.endswith(".parquet"):
                yield self.read_table(key, columns)

    def digest(self, key: str) -> str:
        """SHA-256 of an artefact."""
        return hashlib.sha256(self.store.get(key)).hexdigest()

    def committed(self) -> int:
        """How many rounds are committed; they are numbered from 0 without gaps."""
        index = 0
        while self.exists(round_key(index, "round.json")):
            index += 1
        return index

    def committed_round(self, index: int | None) -> int:
        """The index of a committed round; None stands for the last one.

        Raises:
            UserError: there is no such round.
        """
        committed = self.committed()
        chosen = committed - 1 if index is None else index
        if 0 <= chosen < committed:
            return chosen
        have = f"rounds 0 to {committed - 1} are" if committed else "no round is"
        raise UserError(
            f"round {max(chosen, 0)} is not committed in {self.store.uri} ({have}); see `sisom run`"
        )

    def claim(self, config: Config) -> None:
        """Make the workspace this config's, or check that it is; see `check`."""
        ours = {"format": 1, "digest": config.digest(), "config": config.identity()}
        if not self.store.put_if_absent(PROJECT, to_json(ours)):
            self.check(config)

    def check(self, config: Config) -> None:
        """Refuse a config that did not make this workspace; one that nobody made yet is anybody's.

        Raises:
            WorkspaceMismatch: another config made it; the message names the first key that differs.
        """
        if not self.exists(PROJECT):
            return
        ours = {"digest": config.digest(), "config": config.identity()}
        theirs = self.read_json(PROJECT)
        if not isinstance(theirs, dict) or not isinstance(theirs.get("config"), dict):
            raise WorkspaceMismatch(
                f"{self.store.url(PROJECT)} is not of this program; give `workspace` another place"
            )
        if theirs.get("digest") == ours["digest"]:
            return
        path, was, now = _first_difference(theirs["config"], ours["config"])
        raise WorkspaceMismatch(
            f"{self.store.uri} was made with {path} = {_shown(was)}, but the config says {_shown(now)}; "
            f"set it back, or give `workspace` another place"
        )


def open_workspace(config: Config) -> Workspace:
    """The workspace of a config; nothing is written."""
    return Workspace(open_store(config.workspace, config.storage))


def round_key(index: int, name: str) -> str:
    """Key of an artefact of a round."""
    return f"rounds/{index:03d}/{name}"


def to_json(value: Any) -> bytes:
    """JSON for people and digests: sorted keys, one a line, no NaN."""
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def to_parquet(table: pa.Table, row_group_size: int | None = None) -> bytes:
    """A table as Zstandard Parquet bytes; equal tables are equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group_size)
    data: bytes = sink.getvalue().to_pybytes()
    return data


_ABSENT = object()  # a key that another version of the config has, apart from one that is null


def _first_difference(was: Any, now: Any, path: str = "") -> tuple[str, Any, Any]:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in sorted(set(was) | set(now)):
            before, after = was.get(key, _ABSENT), now.get(key, _ABSENT)
            if before != after:
                return _first_difference(before, after, f"{path}.{key}" if path else key)
    return path, was, now


def _shown(value: Any) -> str:
    text = "nothing" if value is _ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}..."


# -------------------------------------------------------------------------------------------------- lease


class Lease:
    """One writer at a time. A context manager that takes the lease, renews it, and gives it back.

    A lease whose owner is known to be dead (same machine, process gone) or that has run out is taken over. Each
    taking raises `fence`. A lease that could not be renewed in time counts as lost, whether
    or not somebody took it.
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
        """Renew now; called before every commit, so that it falls within a lease that was ours a moment ago.

        Raises:
            LeaseHeld: the lease was lost, or is taken from us just now: another run's fence has passed ours.
            StoreUnavailable: nobody can say.
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
        """Put a record that holds from now on; true when the lease is ours by it."""
        expires = time.time() + self._ttl_s
        record = self._record(expires)
        if not put(record):
            return False
        found, tag = self._store.get_tagged(LEASE)
        if found != record:  # this process slept past its own expiry between the two calls
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
    """A lease as it was written; one that cannot be read has run out, and cannot tell its fence."""
    nobody = {"expires": 0.0, "fence": 0, "host": "", "hostname": "", "pid": 0, "pid_started": 0.0}
    with contextlib.suppress(ValueError):
        found = json.loads(data)
        if isinstance(found, dict) and all(type(found.get(name)) is type(nobody[name]) for name in nobody):
            return found
    return nobody


def in_force(held: Mapping[str, Any]) -> bool:
    """Whether a lease record still keeps others out: not run out, and its owner not known to be dead."""
    return bool(held["expires"] > time.time()) and not _dead(held)


# Two processes may see one start time differently by as much as the clock was set meanwhile. Taking a living owner
# for dead would let two writers in; taking a dead one for living only costs the wait for its expiry.
_SAME_START_S = 60.0


def _dead(held: Mapping[str, Any]) -> bool:
    """Whether the owner ran on this machine and is gone, so that nobody need wait for the expiry."""
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
    """This machine and its space of process ids: boot and pid namespace, not the name alone."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/self/ns/pid").readlink().as_posix())
    return hashlib.sha256(canonical(parts)).hexdigest()[:16]
