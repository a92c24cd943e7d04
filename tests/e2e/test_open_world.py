"""Classes that join: the demo of an open world, with fewer epochs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import ROOT, Terminal
from tests.support.seeds import seeded

pytestmark = pytest.mark.ray


def read(folder: Path, index: int, name: str) -> Any:
    return json.loads((folder / f"rounds/{index:03d}/{name}").read_text())


def test_people_name_classes_and_the_head_grows(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    # 160 labels to know the classes by; over four seeds two queries meet each unknown digit 28 times or more.
    sets = ["oracle.initial_per_class=20", "train.epochs=12", "slopes.search=none", "stop.labels=290"]
    sets += ["resources.actors=1"]
    config = seeded(ROOT / "configs/open_world.yaml")
    arguments = [str(config), *(word for text in sets for word in ("--set", text))]
    told = terminal.run("run", *arguments).stderr
    workspace = tmp_path / "runs/open-world"
    taxonomies = [read(workspace, index, "plan.json")["taxonomy"] for index in range(3)]
    assert taxonomies[0] == [str(n) for n in range(8)]
    joined = taxonomies[2][8:]
    assert sorted(joined) == ["8", "9"], "both unknown digits were met and named"
    for name in joined:
        assert f"'{name}' joins" in told
    proposals = Counter(
        row["label"]
        for file in sorted((workspace / "labels").glob("00[01]-*.parquet"))
        for row in pq.read_table(file).to_pylist()
        if row["status"] == "unknown-class"
    )
    assert taxonomies[1][8:] == sorted(
        (n for n in proposals if proposals[n] >= 10), key=lambda n: (-proposals[n], n)
    )
    last = read(workspace, 2, "metrics.json")
    assert last["classes_joined"] == joined
    assert {last["labels_per_class"][name] >= 10 for name in joined} == {True}
    assert last["query_precision"] is not None
    assert "unknown-class" not in last["refused"]

    # The budget of 290 answers: 160 at first, two queries of 60, and a last one of 10.
    sizes = [len(pq.read_table(workspace / f"rounds/{i:03d}/query.parquet")) for i in range(3)]
    assert sizes == [60, 60, 10]
    assert "290 answers spend the budget of 290" in told
    assert not (workspace / "rounds/003").exists()
    assert "nothing to do" in terminal.run("tick", *arguments).stderr

    reasons: set[str] = set()
    for index in range(3):
        query = pq.read_table(workspace / f"rounds/{index:03d}/query.parquet")
        reasons |= {reason.partition(";")[0] for reason in query["reason"].to_pylist()}
    assert "informative: high sisome" in reasons
    found = json.loads(terminal.run("status", *arguments, "--json").stdout)
    assert found["taxonomy"] == taxonomies[2]
    assert "290" in found["stop"]
    name = next(iter(pq.read_table(workspace / "rounds/001/query.parquet")["id"].to_pylist()))
    explained = json.loads(terminal.run("explain", *arguments, name, "--round", "1").stdout)
    assert explained["asked"] and explained["same_scores"]
