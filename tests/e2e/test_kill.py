"""Killed anywhere and started again, a run ends with the bytes of an uninterrupted one; see tests/faults too."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import QUICKSTART, Demo, Terminal
from tests.faults.victims import kill_one
from tests.support.progress_wait import finished, until

pytestmark = [pytest.mark.ray, pytest.mark.slow]
COMMAND = ("run", str(QUICKSTART), "--rounds", "1")


def stopped(
    terminal: Terminal, ray_folder: Path, due: Callable[[Path], bool], how: signal.Signals
) -> subprocess.CompletedProcess[str]:
    """Start a run, and send the driver a signal as soon as `due(round folder)` holds."""
    process = terminal.start(*COMMAND, env={"RAY_TMPDIR": str(ray_folder)})
    round_ = terminal.folder / "runs/quickstart/rounds/000"
    until(lambda: due(round_), process, folders=[terminal.folder])
    os.kill(process.pid, how)
    out, err = finished(process, folders=[terminal.folder])
    return subprocess.CompletedProcess(COMMAND, process.returncode, out, err)


def in_training(folder: Path) -> bool:
    """A checkpoint of training is known, in notes that are not just being written, and the model is not there."""
    notes = folder.parents[1].glob("train/round-000-*/checkpoint_manager_snapshot.json")
    return any(map(untorn, notes)) and not (folder / "model").exists()


def untorn(notes: Path) -> bool:
    """Torn notes are forgotten on purpose, and training begins anew."""
    try:
        return bool(json.loads(notes.read_text())["checkpoint_results"])
    except (ValueError, OSError):
        return False


def in_slopes(folder: Path) -> bool:
    """Some trials are finished, some are not."""
    return (
        any(folder.parents[1].glob("tune/round-000-*-finished/*.json"))
        and not (folder / "slopes.json").exists()
    )


def in_scoring(folder: Path) -> bool:
    """Some shards are finished, some are not."""
    return any(folder.glob("parts/*.parquet")) and not (folder / "account.json").exists()


def assert_same_bytes(round_: Path, whole: Path) -> None:
    """Two folders of the round hold the same results, wherever the pool of either lies."""
    for name in (
        "labeled.parquet",
        "model/model.safetensors",
        "model/model.json",
        "slopes.json",
        "bank.safetensors",
    ):
        assert (round_ / name).read_bytes() == (whole / name).read_bytes(), name
    for name in ("query.parquet", "scores/00000.parquet", "quarantine/00000.parquet"):
        ours, theirs = (pq.read_table(folder / name).drop_columns("uri") for folder in (round_, whole))
        assert ours == theirs, name


def test_killed_in_every_long_stage_the_bytes_are_the_same(
    first_round: Demo, tmp_path: Path, ray_folder: Path
) -> None:
    terminal = Terminal(tmp_path)
    killed = stopped(terminal, ray_folder, in_training, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    interrupted = stopped(terminal, ray_folder, in_slopes, signal.SIGINT)
    assert interrupted.returncode == 130, interrupted
    # The workers of a killed driver may live long enough to end what they do: the checkpoint is of epoch 30 then.
    assert re.search("training went on after epoch (15|30)", interrupted.stderr)
    assert "run the same command again to go on" in interrupted.stderr
    assert "Traceback" not in interrupted.stderr
    killed = stopped(terminal, ray_folder, in_scoring, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    assert "trials were finished before" in killed.stderr
    round_ = tmp_path / "runs/quickstart/rounds/000"
    finished_rows = sum(pq.read_metadata(path).num_rows for path in round_.glob("parts/*.parquet"))
    assert finished_rows > 0

    process = terminal.start(*COMMAND, env={"RAY_TMPDIR": str(ray_folder)})
    until(lambda: kill_one("scorer", ray_folder, random.Random(0)), process, folders=[tmp_path])
    out, err = finished(process, folders=[tmp_path])
    assert process.returncode == 0, f"the loss of a worker ended the run:\n{out}\n{err}"
    listed = json.loads((round_ / "metrics.json").read_text())["listed"]
    scored = json.loads((round_ / "timings/score.json").read_text())["images"]
    assert scored == listed - finished_rows, "a finished shard was scored again"
    # What was being written when the driver died lies there under a hidden name, and is nobody's artefact.
    assert not any((round_ / "parts").glob("*.parquet"))
    assert_same_bytes(round_, first_round.workspace / "rounds/000")
    status = terminal.run("status", str(QUICKSTART)).stdout
    assert "1 of 3 rounds committed" in status
