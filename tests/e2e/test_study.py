"""Studies from the command line: killed and started again they end with the same tables; each feeds the next."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import ROOT, Terminal
from tests.faults.victims import sweep
from tests.support.progress_wait import finished, until

pytestmark = pytest.mark.ray
TINY = ("--set", "train.epochs=2", "--set", "seeds=[0]")
ACTIVE = (
    *("study", str(ROOT / "configs/al_digits.yaml"), *TINY, "--set", "rounds=3"),
    *("--set", "pool.count=160", "--set", "test.count=100", "--set", "strategies=[random, sisome]"),
)


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """What tells our processes from all others; a short name, since Ray's sockets lie there."""
    folder = Path(tempfile.mkdtemp(prefix="ss-", dir="/tmp"))
    yield folder
    sweep(folder)
    shutil.rmtree(folder, ignore_errors=True)


def tables(workspace: Path) -> dict[str, bytes]:
    """All results but the seconds."""
    found = {path.name: path.read_bytes() for path in workspace.glob("results/*.parquet")}
    assert "seconds.parquet" in found
    return {name: data for name, data in found.items() if name != "seconds.parquet"}


def results(workspace: Path) -> dict[Path, int]:
    """Finished rounds and cells, each with the time of its writing."""
    return {path: path.stat().st_mtime_ns for path in workspace.glob("cells/**/*.json")}


@pytest.mark.faults
def test_a_killed_study_ends_with_the_same_tables(tmp_path: Path, ray_folder: Path) -> None:
    terminal = Terminal(tmp_path)
    process = terminal.start(*ACTIVE, "--set", "workspace=killed", env={"RAY_TMPDIR": str(ray_folder)})
    killed = tmp_path / "killed"
    until(lambda: any(killed.glob("cells/chains/*/*/round-001.json")), process, folders=[tmp_path])
    os.kill(process.pid, signal.SIGKILL)
    finished(process)
    sweep(ray_folder)
    assert not (killed / "report.html").exists()
    before = results(killed)

    again = terminal.run(*ACTIVE, "--set", "workspace=killed")
    assert Path(again.stdout.strip()) == killed / "report.html"
    assert {path: results(killed)[path] for path in before} == before  # nothing was computed a second time
    clean = tmp_path / "clean"
    terminal.run(*ACTIVE, "--set", "workspace=clean")
    assert tables(killed) == tables(clean)
    rounds = pq.read_table(clean / "results/rounds.parquet").to_pylist()
    assert len(rounds) == 2 * 3
    assert (
        len({row["accuracy"] for row in rounds if row["round"] == 0}) == 1
    )  # one network for all strategies

    # The networks that it left, with the images that each was trained on, are the next study's.
    detect = (
        *("study", str(ROOT / "configs/ood_digits.yaml"), "--set", "workspace=ood", "--set", "train=null"),
        *("--set", f"checkpoints=[{clean}/cells/chains]", "--set", "detectors=[energy, sisome, odin, vim]"),
        *("--set", "fit={name: digits, split: train}", "--set", "known={name: digits, count: 150}"),
        *("--set", "near=[]", "--set", "far=[{name: noise, count: 60}]"),
    )
    terminal.run(*detect)
    values = pq.read_table(tmp_path / "ood/results/values.parquet").to_pylist()
    assert len(values) == 2 * 4
    assert all(
        0.0 <= row[name] <= 1.0 for row in values for name in ("auroc", "fpr95", "aupr_in", "aupr_out")
    )
    fitted = sorted((tmp_path / "ood/cells/features").glob("**/fit/*/result.json"))
    assert [images_of(path) for path in fitted] == [70] * 2  # 30 at first and twice 20, not all 1,347
    assert (tmp_path / "ood/report.html").stat().st_size > 10_000


def images_of(path: Path) -> int:
    return int(json.loads(path.read_text())["images"])


def test_a_study_from_the_command_line(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    done = terminal.run(
        *("study", str(ROOT / "configs/ood_digits.yaml"), *TINY, "--set", "workspace=ood"),
        *("--set", "detectors=[energy, {name: sisome, options: {slopes: cifar10}}, odin, vim]"),
        *("--set", "fit.count=200", "--set", "known.count=60", "--set", "far=[{name: noise, count: 40}]"),
    )
    assert Path(done.stdout.strip()) == tmp_path / "ood/report.html"
    values = pq.read_table(tmp_path / "ood/results/values.parquet").to_pylist()
    assert [(row["detector"], row["group"]) for row in values] == [
        (detector, group) for detector in ("energy", "sisome", "odin", "vim") for group in ("near", "far")
    ]
    assert len(list((tmp_path / "ood/cells/features").glob("**/features.safetensors"))) == 4  # each set once
