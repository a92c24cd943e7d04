"""Waits that end by progress, not by a clock: what works is waited for, however slow the machine is.

A process works while it prints, while files in its folders change, or while it or a descendant uses CPU time. Only
one that shows no sign of work for `STILL_S` seconds hangs.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import psutil

STILL_S = 300.0  # without any sign of work
# CPU seconds of one process since the last sign that are a new sign: more than an idle daemon of Ray, MLflow or a
# browser uses in `STILL_S`, and less than work gets there that shares its processor with twenty others.
BUSY_S = 12.0
LOOK_S = 5.0  # between looks at files and processes, which cost something


class Progress:
    """When a process last showed a sign of work."""

    def __init__(self, process: subprocess.Popen[Any] | None, folders: Iterable[Path] = ()) -> None:
        self._pid = None if process is None else process.pid
        self._folders = tuple(folders)
        self._looked = self._moved = time.monotonic()
        self._files = _files(self._folders)
        self._used = _used(self._pid)
        self._signs: dict[str, object] = {}
        self._has_moved = False  # since the last look

    def note(self, name: str, sign: object) -> None:
        """Count any change of `sign` as work: a number of bytes, a set of keys."""
        if self._signs.get(name) != sign:
            self._signs[name] = sign
            self._moved, self._has_moved = time.monotonic(), True

    def hangs(self) -> bool:
        """Return whether there was no sign of work for too long."""
        now = time.monotonic()
        if now - self._looked >= LOOK_S:
            self._look(now)
        return now - self._moved > STILL_S

    def _look(self, now: float) -> None:
        files, used = _files(self._folders), _used(self._pid)
        busy = any(seconds - self._used.get(who, 0.0) >= BUSY_S for who, seconds in used.items())
        if files != self._files or busy:
            self._moved, self._has_moved = now, True
        if self._has_moved:
            self._used = used
        self._looked, self._files, self._has_moved = now, files, False


class Hang(AssertionError):
    """A process that did no work for `STILL_S` seconds; it was killed."""


def until(
    due: Callable[[], object],
    process: subprocess.Popen[Any] | None = None,
    *,
    folders: Iterable[Path] = (),
    words: Callable[[], object] | None = None,
    pause_s: float = 0.02,
) -> None:
    """Return as soon as something is due; without a process, the test run's own limit is the only clock.

    Args:
        due: what is waited for, asked again and again.
        process: whose work brings it about.
        folders: where the process writes.
        words: what to tell of a process that failed; what it printed, if left out.
        pause_s: seconds between two questions.

    Raises:
        AssertionError: the process ended before.
        Hang: it did no work any more.
    """
    progress = None if process is None else Progress(process, folders)
    while not due():
        if process is not None and process.poll() is not None:
            if due():  # in its last moment
                return
            raise AssertionError(
                f"ended too early ({process.returncode}): {(words or process.communicate)()}"
            )
        if process is not None and progress is not None and progress.hangs():
            end(process)
            raise Hang(f"what was waited for never came: {(words or process.communicate)()}")
        time.sleep(pause_s)


def finished(process: subprocess.Popen[Any], *, folders: Iterable[Path] = ()) -> tuple[str, str]:
    """Wait for the end of a process, and return what it printed to its pipes; raise `Hang` if it does."""
    progress = Progress(process, folders)
    pipes = [_Pipe(process.stdout), _Pipe(process.stderr)]
    while process.poll() is None or any(pipe.is_open() for pipe in pipes):
        progress.note("printed", [pipe.size for pipe in pipes])
        if progress.hangs():
            end(process)
            raise Hang(f"{process.args}:\n" + "\n".join(pipe.text() for pipe in pipes))
        for pipe in pipes:
            pipe.join(0.05)
    out, err = (pipe.text() for pipe in pipes)
    return out, err


def run(
    command: list[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    folders: Iterable[Path] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and return its status and what it printed; raise `Hang` if it does."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=cwd, env=env, stdout=pipe, stderr=pipe, text=True) as process:
        out, err = finished(process, folders=folders)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a process and its descendants."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    process.kill()
    process.wait()


class _Pipe:
    """What a process prints to one pipe, read as it comes."""

    def __init__(self, source: IO[str] | None) -> None:
        self._parts: list[str] = []
        self.size = 0
        self._thread = threading.Thread(target=self._read, args=(source,), daemon=True)
        self._thread.start()

    def _read(self, source: IO[str] | None) -> None:
        if source is not None:
            with source:
                for line in source:
                    self._parts.append(line)
                    self.size += len(line)

    def is_open(self) -> bool:
        """Return whether more may come."""
        return self._thread.is_alive()

    def join(self, seconds: float) -> None:
        """Wait for the end, at most so long."""
        if self.is_open():
            self._thread.join(seconds)
        else:
            time.sleep(seconds / 2)

    def text(self) -> str:
        """Return what has come."""
        return "".join(self._parts)


def _files(folders: Iterable[Path]) -> dict[str, tuple[int, int]]:
    """Sizes and times of files, without those that change while nobody works: leases, and what Ray notes of itself."""
    found = {}
    for top in folders:
        for folder, inside, names in os.walk(top):
            inside[:] = [name for name in inside if not name.startswith("session_")]
            for name in names:
                if "lease.json" not in name:
                    with contextlib.suppress(OSError):
                        stat = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118 - a quarter of the time
                        found[f"{folder}/{name}"] = (stat.st_size, stat.st_mtime_ns)
    return found


def _used(pid: int | None) -> dict[tuple[int, float], float]:
    """CPU seconds of a process and its descendants, by id and start."""
    found: dict[tuple[int, float], float] = {}
    if pid is None:
        return found
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        for one in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                found[one.pid, one.create_time()] = times.user + times.system
    return found
