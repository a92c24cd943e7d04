"""What counts as work, by a clock that stands in for the real one; and what becomes of a process that does none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.progress_wait import BUSY_S, LOOK_S, STILL_S, Hang, Progress, finished, run, until


@dataclass
class Clock:
    now: float = 1000.0
    used: float = 0.0  # CPU seconds of the process


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("tests.support.progress_wait.time.monotonic", lambda: clock.now)
    monkeypatch.setattr("tests.support.progress_wait._used", lambda pid: {(1, 0.0): clock.used})
    return clock


def script(text: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", text], stdin=pipe, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[str]]:
    """A process that waits for good, and has a child that does too."""
    waiting = "import sys; sys.stdin.readline()"
    process = script(
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {waiting!r}]); "
        f"print('here', flush=True); {waiting}"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    yield process
    process.kill()
    process.communicate()


def test_only_a_process_without_any_sign_hangs(
    clock: Clock, sleeper: subprocess.Popen[str], tmp_path: Path
) -> None:
    progress = Progress(sleeper, [tmp_path])
    file = tmp_path / "below" / "artefact"
    file.parent.mkdir()

    def signs() -> Iterator[None]:
        yield progress.note("printed", 3)
        yield file.write_text("x") and None
        yield file.write_text("longer") and None
        clock.used += BUSY_S
        yield

    for _ in signs():
        clock.now += STILL_S - 1
        assert not progress.hangs()
    clock.now += STILL_S + 1
    assert progress.hangs()


def test_what_goes_on_without_work_is_no_sign(
    clock: Clock, sleeper: subprocess.Popen[str], tmp_path: Path
) -> None:
    progress = Progress(sleeper, [tmp_path])
    notes = tmp_path / "session_1" / "logs"
    notes.mkdir(parents=True)
    while clock.now < 1000.0 + STILL_S:
        assert not progress.hangs()
        progress.note("printed", 0) if clock.now == 1000.0 else None
        clock.now += LOOK_S
        clock.used += 0.03 * LOOK_S  # as an idle daemon
        (tmp_path / "lease.json").write_text(f"{clock.now}")
        (notes / "raylet.out").write_text(f"{clock.now}")
    clock.now += 1
    assert progress.hangs()


def test_work_is_counted_from_the_last_sign_on(clock: Clock, sleeper: subprocess.Popen[str]) -> None:
    """Little work for an hour is some work, but a sign is more than what was used up to the one before."""
    progress = Progress(sleeper)
    for _ in range(100):
        clock.now += STILL_S / 2
        clock.used += BUSY_S / 2
        assert not progress.hangs()


def test_a_process_that_hangs_is_killed_with_its_children(
    sleeper: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    family = [psutil.Process(sleeper.pid), *psutil.Process(sleeper.pid).children()]
    assert len(family) == 2
    monkeypatch.setattr("tests.support.progress_wait.STILL_S", -1.0)
    with pytest.raises(Hang, match=r"sys\.stdin"):
        finished(sleeper)
    until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family))


def test_all_that_was_printed_comes_back() -> None:
    text = "import sys; print('x' * 10**6); print('y' * 10**6, file=sys.stderr); sys.exit(3)"
    found = run([sys.executable, "-c", text])
    assert (found.returncode, len(found.stdout), len(found.stderr)) == (3, 10**6 + 1, 10**6 + 1)


def test_a_process_that_ends_before_the_moment_tells_why() -> None:
    with pytest.raises(AssertionError, match=r"ended too early \(7\).*no time"):
        until(lambda: False, script("import sys; print('no time', file=sys.stderr); sys.exit(7)"))


def test_a_moment_that_came_with_the_end_is_none_too_late(tmp_path: Path) -> None:
    asked: list[int] = []
    process = script("")
    process.communicate()
    until(lambda: asked.append(1) or len(asked) > 1, process)
