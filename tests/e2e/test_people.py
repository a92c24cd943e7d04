"""People instead of a simulated oracle: the run waits for a label file, and says where to put it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import QUICKSTART, Demo, Terminal

pytestmark = pytest.mark.ray


def test_a_run_waits_for_people_and_goes_on_with_their_answers(demo: Demo, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    initial = pq.read_table(demo.workspace / "labels/000-initial.parquet").select(["id", "label"])
    pq.write_table(initial, tmp_path / "initial.parquet")
    sets = [
        "demo=null",
        f"pool.uri={demo.data}/pool",
        f"test.uri={demo.data}/test",
        "oracle.kind=people",
        f"oracle.initial={tmp_path}/initial.parquet",
        "slopes.search=none",
        "train.num_workers=2",
        "train.precision=bf16",
        "train.start=last",
        "query.strategy=badge",
        "resources.actors=1",
    ]
    arguments = ["run", str(QUICKSTART), *(word for text in sets for word in ("--set", text))]
    waiting = terminal.run(*arguments, "--rounds", "2", expect=3)
    assert "none is answered" in waiting.stderr and "001-answers.parquet" in waiting.stderr
    workspace = tmp_path / "runs/quickstart"
    first = json.loads((workspace / "rounds/000/metrics.json").read_text())
    assert first["test_accuracy"] > 0.5, "two training workers learn too"
    assert first["ood_auroc"] is None, "without truths nobody knows"
    assert not (workspace / "rounds/001").exists()

    query = pq.read_table(workspace / "rounds/000/query.parquet")
    assert query["reason"].to_pylist().count("informative: picked by badge") == 54
    assert not (workspace / "rounds/000/together").exists() or not list(
        (workspace / "rounds/000/together").iterdir()
    ), "what the strategy looked at is gone"
    told = json.loads(terminal.run("explain", *arguments[1:], query["id"][0].as_py()).stdout)
    assert told["asked"] and told["rank"] is None
    answers = pa.table({"id": query["id"], "label": query["predicted"]})
    outside = answers.set_column(1, "label", pa.array(["nonsense"] * len(answers)))
    place = workspace / "labels/001-answers.parquet"
    pq.write_table(outside, place)
    refused = terminal.run(*arguments, "--rounds", "2", expect=2)
    assert "row 0" in refused.stderr and "not in the taxonomy" in refused.stderr
    place.unlink()
    tick = ["tick", *arguments[1:]]
    began = time.monotonic()
    assert "60 are needed" in terminal.run(*tick, expect=3).stderr
    print(f"a tick that waits: {time.monotonic() - began:.1f} s")
    pq.write_table(answers, place)
    assert "60 of the 60 questions of round 000 are answered" in terminal.run(*tick).stderr
    terminal.run(*tick, expect=3)
    second = json.loads((workspace / "rounds/001/metrics.json").read_text())
    assert second["labeled_total"] == first["labeled_total"] + first["query_size"]
