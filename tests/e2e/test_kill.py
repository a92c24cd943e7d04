"""A driver that is killed anywhere and started again ends with the query of an uninterrupted run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import QUICKSTART, Demo, Terminal

pytestmark = pytest.mark.ray


def stop_when(
    terminal: Terminal, due: Callable[[Path], bool], how: signal.Signals, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Start a run, and send the driver a signal as soon as `due(round folder)` holds."""
    folder = terminal.folder / "runs/quickstart/rounds/000"
    process = terminal.start(*arguments)
    deadline = time.monotonic() + 180
    while not due(folder):
        assert process.poll() is None, f"ended before it could be killed: {process.communicate()}"
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.02)
    os.kill(process.pid, how)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def in_training(folder: Path) -> bool:
    """A checkpoint of training is there, the model is not."""
    saved = folder.parents[1].glob("train/round-000-*/checkpoint_*")
    return any(saved) and not (folder / "model").exists()


def in_slopes(folder: Path) -> bool:
    """Trials have begun."""
    return any(folder.parents[1].glob("tune/round-000/_trial_*")) and not (folder / "slopes.json").exists()


def in_scoring(folder: Path) -> bool:
    """Some shards are finished, some are not."""
    return any(folder.glob("parts/*.parquet")) and not (folder / "account.json").exists()


def test_killed_in_training_and_in_scoring_the_query_is_the_same(demo: Demo, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    command = ("run", str(QUICKSTART), "--rounds", "1")
    assert stop_when(terminal, in_training, signal.SIGKILL, *command).returncode == -signal.SIGKILL
    interrupted = stop_when(terminal, in_slopes, signal.SIGINT, *command)
    assert interrupted.returncode == 130, interrupted
    assert "run the same command again to go on" in interrupted.stderr
    assert "Traceback" not in interrupted.stderr
    assert stop_when(terminal, in_scoring, signal.SIGKILL, *command).returncode == -signal.SIGKILL
    round_ = tmp_path / "runs/quickstart/rounds/000"
    finished = sum(pq.read_metadata(path).num_rows for path in round_.glob("parts/*.parquet"))
    assert finished > 0
    terminal.run(*command)
    listed = json.loads((round_ / "metrics.json").read_text())["listed"]
    scored = json.loads((round_ / "timings/score.json").read_text())["images"]
    assert scored == listed - finished, "a finished shard was scored again"
    assert not (round_ / "parts").exists() or not any((round_ / "parts").iterdir())
    whole = demo.workspace / "rounds/000"
    for name in ("model/model.safetensors", "slopes.json", "bank.safetensors"):
        assert (round_ / name).read_bytes() == (whole / name).read_bytes(), name
    for name in ("query.parquet", "scores/00000.parquet", "quarantine/00000.parquet"):
        ours, theirs = (pq.read_table(folder / name).drop_columns("uri") for folder in (round_, whole))
        assert ours == theirs, name
    status = terminal.run("status", str(QUICKSTART)).stdout
    assert "1 of 3 rounds committed" in status
