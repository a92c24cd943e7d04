"""Another detector and another strategy in SISOM's place, for a whole round and for verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import QUICKSTART, Demo, Terminal

pytestmark = pytest.mark.ray


def test_a_round_judged_by_odin_that_asks_a_committee(demo: Demo, tmp_path: Path) -> None:
    """Images moved before they are judged, the labeled ones too; and two networks that vote."""
    terminal = Terminal(tmp_path)
    sets = [
        f"pool.uri={demo.data}/pool",
        "train.epochs=12",
        "slopes.search=none",
        "scoring.score=odin",
        "scoring.options={temperature: 10.0, noise: 0.01}",
        "query.strategy=qbc-kl",
        "query.committee.members=2",
    ]
    arguments = [str(QUICKSTART), *(word for text in sets for word in ("--set", text))]
    terminal.run("run", *arguments, "--rounds", "1")
    workspace = tmp_path / "runs/quickstart/rounds/000"
    scores = pq.read_table(workspace / "scores/00000.parquet")
    assert scores.column_names[-2:] == ["strangeness", "priority"]
    by_id = {row["id"]: row for row in scores.to_pylist()}
    query = pq.read_table(workspace / "query.parquet").to_pylist()
    usual = [row for row in query if row["reason"] == "informative: high qbc-kl"]
    assert len(usual) == 54
    assert [by_id[row["id"]]["priority"] for row in usual] == sorted(
        (by_id[row["id"]]["priority"] for row in usual), reverse=True
    )
    metrics = json.loads((workspace / "metrics.json").read_text())
    strange = [row["strangeness"] > metrics["threshold"] for row in by_id.values()]
    assert strange == [row["is_ood"] for row in by_id.values()]
    assert metrics["ood_auroc"] > 0.6
    held = sum(strange) / len(strange)
    assert 0.01 < held < 0.6, "a threshold from images that were moved too"
    manifest = json.loads((workspace / "round.json").read_text())
    assert "model/member-001.safetensors" in manifest["artefacts"]
    first, second = (workspace / "model" / f"{n}.safetensors" for n in ("model", "member-001"))
    assert first.read_bytes() != second.read_bytes()

    out = tmp_path / "verdicts"
    terminal.run("score", *arguments, "--pool", str(demo.data / "pool"), "--out", str(out))
    again = pq.read_table(out / "scores/00000.parquet")
    assert again.column_names[-1] == "strangeness"
    for name in ("id", "strangeness", "is_ood"):
        assert again[name].to_pylist() == scores[name].to_pylist()
    told = json.loads(terminal.run("explain", *arguments, usual[0]["id"]).stdout)
    assert told["asked"]
    assert told["rank"] == 0
    replayed = json.loads(terminal.run("replay", *arguments, "--sample", "20").stdout)
    assert replayed["equal"] == 20
