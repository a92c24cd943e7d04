"""One round from the command line: every artefact is there, every row accounted for, and nothing is left to do."""

from __future__ import annotations

import json

import pyarrow.dataset as ds
import pytest

from tests.e2e.conftest import QUICKSTART, Demo

pytestmark = [pytest.mark.ray, pytest.mark.quick]


def test_a_round_is_whole_and_told(first_round: Demo) -> None:
    folder = first_round.workspace / "rounds/000"
    manifest = json.loads((folder / "round.json").read_text())
    for name in ("plan.json", "model/model.safetensors", "slopes.json", "bank.safetensors", "query.parquet"):
        assert (folder / name).is_file() and name in manifest["artefacts"], name
    found = [
        ds.dataset(place, format="parquet").to_table(columns=["id"])["id"].to_pylist()
        for place in (first_round.data / "pool", folder / "scores", folder / "quarantine")
    ]
    assert sorted([*found[1], *found[2]]) == sorted(found[0]), "every listed id is scored or quarantined"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["scored"], metrics["quarantined"]) == (len(found[1]), len(found[2]))
    assert metrics["query_size"] == 60
    assert metrics["test_accuracy"] > 0.6
    assert "60 asked" in first_round.first.stderr
    assert (folder / "report.html").read_text().count("<img") > 60


def test_again_there_is_nothing_to_do(first_round: Demo) -> None:
    before = (first_round.workspace / "rounds/000/round.json").read_bytes()
    told = first_round.terminal.run("run", str(QUICKSTART), "--rounds", "1").stderr
    assert "nothing to do" in told
    assert (first_round.workspace / "rounds/000/round.json").read_bytes() == before
