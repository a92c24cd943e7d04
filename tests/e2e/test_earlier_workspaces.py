"""Workspaces that earlier releases left are read, finished and continued; `fixtures/make_workspace.py` makes one."""

from __future__ import annotations

import hashlib
import html
import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import Terminal
from tests.fixtures.make_workspace import PLACE, relocate

EARLIER = sorted(path.name for path in Path(__file__).parents[1].glob("fixtures/workspaces/*"))

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def restore_times(folder: Path) -> None:
    """Give the pool's files the times that their listing has: with others they would be other objects."""
    for part in (folder / "workspace/rounds").glob("*/pool/*.parquet"):
        for row in pq.read_table(part, columns=["uri", "etag"]).to_pylist():
            moment = int(row["etag"].partition("-")[0], 16)
            os.utime(row["uri"], ns=(moment, moment))


@pytest.fixture(params=EARLIER)
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Terminal:
    """A terminal in a copy of an earlier workspace's folder."""
    shutil.copytree(
        Path(__file__).parents[1] / "fixtures/workspaces" / request.param, tmp_path, dirs_exist_ok=True
    )
    relocate(tmp_path, PLACE, str(tmp_path))
    restore_times(tmp_path)
    return Terminal(tmp_path)


def test_there_is_a_workspace_of_an_earlier_release() -> None:
    assert "before-packages" in EARLIER


def test_an_earlier_workspace_is_read_finished_and_continued_with_another_config(terminal: Terminal) -> None:
    rounds = terminal.folder / "workspace/rounds"
    first, planned = digests(rounds / "000"), (rounds / "001/plan.json").read_bytes()

    status = json.loads(terminal.run("status", "config.yaml", "--json").stdout)
    assert (status["committed"], status["in_progress"]["next"]) == (1, "train")
    asked = pq.read_table(rounds / "000/query.parquet")["id"].to_pylist()[0]
    assert asked in terminal.run("explain", "config.yaml", asked).stdout

    # The round that was interrupted goes on from its own plan.
    one = ("--set", "resources.actors=1")
    terminal.run("run", "config.yaml", *one)
    assert (rounds / "001/plan.json").read_bytes() == planned
    metrics = json.loads((rounds / "001/metrics.json").read_text())
    assert metrics["scored"] + metrics["quarantined"] == metrics["listed"] == 120
    assert metrics["query_size"] == 12

    # The next one is told otherwise, and says so.
    changes = ["train.epochs=2", "query.size=5", "query.strategy=margin", "rounds=3"]
    told = terminal.run(
        "run", "config.yaml", *one, *(word for change in changes for word in ("--set", change))
    )
    assert "train.epochs: 4 -> 2" in told.stdout + told.stderr
    status = json.loads(terminal.run("status", "config.yaml", "--set", "rounds=3", "--json").stdout)
    assert status["committed"] == 3
    assert [row["changed"] for row in status["rounds"]][:2] == [[], []]
    expected = ["query.size: 12 -> 5", 'query.strategy: "sisome" -> "margin"', "train.epochs: 4 -> 2"]
    assert status["rounds"][2]["changed"] == expected
    report = (rounds / "002/report.html").read_text()
    assert all(html.escape(change) in report for change in ("query.size: 12 -> 5", "train.epochs: 4 -> 2"))
    assert status["rounds"][2]["query_size"] == 5
    assert digests(rounds / "000") == first

    # Each round is judged by its own config, whichever is given now.
    for index, strategy in ((1, "sisome"), (2, "margin")):
        plan = json.loads((rounds / f"{index:03d}/plan.json").read_text())
        assert plan["config"]["query"]["strategy"] == strategy
        again = json.loads(
            terminal.run("replay", "config.yaml", "--sample", "5", "--round", str(index)).stdout
        )
        assert (again["equal"], again["differ"]) == (5, {})
