"""One raylet or three, and one of them lost: the same bytes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.progress_wait import run
from tests.support.scoring_lab import small_pool

pytestmark = [pytest.mark.ray, pytest.mark.faults]

ROOT = Path(__file__).parents[2]


def scored(pool: Path, out: Path, *options: str) -> str:
    command = [sys.executable, "-m", "tests.support.raylets", str(pool), str(out), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = run(command, env=environment, folders=[out])
    assert found.returncode == 0, found.stderr[-3000:]
    return found.stdout.splitlines()[-1]


def test_raylets_and_the_loss_of_one_change_no_byte(tmp_path: Path) -> None:
    pool = small_pool(tmp_path / "pool", 1200, 30)
    want = scored(pool, tmp_path / "one")
    assert want.startswith("1200 ")
    assert scored(pool, tmp_path / "lost", "--nodes", "3", "--lose") == want
    assert scored(pool, tmp_path / "three", "--nodes", "3") == want


def test_actors_run_on_a_node_that_comes_later_and_change_no_byte(tmp_path: Path) -> None:
    pool = small_pool(tmp_path / "pool", 6000, 30)
    assert scored(pool, tmp_path / "grown", "--grow") == scored(pool, tmp_path / "one", "--nodes", "3")
