"""Another detector and another strategy in SISOM's place, for a whole round and for verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import QUICKSTART, Demo, Terminal

pytestmark = pytest.mark.ray


def test_a_round_judged_by_neighbors_that_asks_by_margin(demo: Demo, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    sets = [
        f"pool.uri={demo.data}/pool",
        "train.epochs=12",
        "slopes.search=none",
        "scoring.score=knn",
        "scoring.options={k: 5}",
        "query.strategy=margin",
    ]
    arguments = [str(QUICKSTART), *(word for text in sets for word in ("--set", text))]
    terminal.run("run", *arguments, "--rounds", "1")
    workspace = tmp_path / "runs/quickstart/rounds/000"
    scores = pq.read_table(workspace / "scores/00000.parquet")
    assert scores.column_names[-2:] == ["strangeness", "priority"]
    by_id = {row["id"]: row for row in scores.to_pylist()}
    query = pq.read_table(workspace / "query.parquet").to_pylist()
    usual = [row for row in query if row["reason"] == "informative: high margin"]
    assert len(usual) == 54
    assert [by_id[row["id"]]["priority"] for row in usual] == sorted(
        (by_id[row["id"]]["priority"] for row in usual), reverse=True
    )
    metrics = json.loads((workspace / "metrics.json").read_text())
    strange = [row["strangeness"] > metrics["threshold"] for row in by_id.values()]
    assert strange == [row["is_ood"] for row in by_id.values()]
    assert metrics["ood_auroc"] > 0.6

    out = tmp_path / "verdicts"
    terminal.run("score", *arguments, "--pool", str(demo.data / "pool"), "--out", str(out))
    again = pq.read_table(out / "scores/00000.parquet")
    assert again.column_names[-1] == "strangeness"
    for name in ("id", "strangeness", "is_ood"):
        assert again[name].to_pylist() == scores[name].to_pylist()
    told = json.loads(terminal.run("explain", *arguments, usual[0]["id"]).stdout)
    assert told["asked"]
    assert told["rank"] == 0
