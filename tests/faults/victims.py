"""The processes of one run, told from all others by the folder that its Ray works in."""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

# By title, or by the program's name.
_TITLES: Mapping[str, str] = {
    "raylet": r"\S*/raylet\b",
    "gcs": r"\S*/gcs_server\b",
    "train-worker": r"ray::.*RayTrainWorker",
    "train-controller": r"ray::.*TrainController",
    "trial": r"ray::.*(ImplicitFunc|_trial)",
    "reader": r"ray::.*ReadTask",
    "scorer": r"ray::.*_ScoringActor",
    "agent": r"ray::\w*Agent",
    "worker": r"ray::(?!IDLE|\w*Agent)",
}


def processes(home: Path) -> Iterator[psutil.Process]:
    """All that belong to the Ray whose temporary folder is `home`, and its driver, whoever their parents are by now.

    Most carry the folder in their environment. Workers write their titles over it, but hold their logs open.
    """
    wanted = f"RAY_TMPDIR={home}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, psutil.Error):
                if wanted in (folder / "environ").read_bytes().split(b"\0") or _holds(folder, str(home)):
                    yield psutil.Process(int(folder.name))


def _holds(folder: Path, home: str) -> bool:
    if not (folder / "cmdline").read_bytes().startswith(b"ray::"):
        return False
    return any(str(file.readlink()).startswith(f"{home}/") for file in (folder / "fd").iterdir())


def titled(victim: str, home: Path) -> list[psutil.Process]:
    """The living processes that are such a victim."""
    found = []
    for process in processes(home):
        with contextlib.suppress(psutil.Error):
            title = " ".join(process.cmdline())
            if re.match(_TITLES[victim], title) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return sorted(found, key=lambda process: process.pid)


def kill_one(victim: str, home: Path, rng: random.Random) -> str | None:
    """Kill -9 one of them; gives its title, or None where there is none now."""
    found = titled(victim, home)
    if not found:
        return None
    chosen = rng.choice(found)
    with contextlib.suppress(psutil.Error):
        title = " ".join(chosen.cmdline())[:80]
        chosen.kill()
        return title
    return None


def sweep(home: Path, patience_s: float = 10.0) -> int:
    """Wait until none is left, then kill what is; gives how many had to be killed."""
    deadline = time.monotonic() + patience_s
    left = list(processes(home))
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = list(processes(home))
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return len(left)
