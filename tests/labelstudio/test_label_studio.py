"""A round's questions answered in a real Label Studio, through its API, and learned from by the next round."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.load import load
from pipeline.pool import demo as demo_data
from tests.e2e.conftest import QUICKSTART, Terminal
from tests.labelstudio.conftest import LabelStudio

pytestmark = pytest.mark.ray

OTHER = "second@example.com"


def chosen(control: str, value: str) -> dict[str, Any]:
    kind, key = ("textarea", "text") if control == "proposed" else ("choices", "choices")
    return {"from_name": control, "to_name": "image", "type": kind, "value": {key: [value]}}


def results(truth: Mapping[str, str]) -> list[dict[str, Any]]:
    """What a knowing annotator clicks."""
    if truth["kind"] == "known":
        return [chosen("label", truth["label"])]
    if truth["kind"] == "unknown":
        return [chosen("status", "unknown-class"), chosen("proposed", f"digit {truth['label']}")]
    return [chosen("status", "out-of-world")]


def test_a_round_is_answered_in_label_studio(label_studio: LabelStudio, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    demo_data.ensure(load(QUICKSTART, [f"pool.uri={tmp_path}/data/pool"]))
    truths = {row["id"]: row for row in pq.read_table(tmp_path / "data/truth/truth.parquet").to_pylist()}
    known = [row for row in truths.values() if row["kind"] == "known"]
    first = [row for digit in "01234567" for row in [r for r in known if r["label"] == digit][:5]]
    pq.write_table(pa.Table.from_pylist(first).select(["id", "label"]), tmp_path / "first.parquet")
    sets = [
        "demo=null",
        f"pool.uri={tmp_path}/data/pool",
        f"test.uri={tmp_path}/data/test",
        "oracle.kind=people",
        f"oracle.initial={tmp_path}/first.parquet",
        "slopes.search=none",
    ]
    config = [str(QUICKSTART), *(word for text in sets for word in ("--set", text))]
    terminal.run("run", *config, "--rounds", "1")

    said = terminal.run("labels", "export", *config, "--to", "label-studio", "--out", "questions.json")
    assert "60 questions of round 000" in said.stdout
    interface = (tmp_path / "questions.xml").read_text()
    project = label_studio.ask("POST", "/api/projects", {"title": "round 000", "label_config": interface})[
        "id"
    ]
    sent = json.loads((tmp_path / "questions.json").read_text())
    came = label_studio.ask("POST", f"/api/projects/{project}/import?return_task_ids=true", sent)
    assert (came["task_count"], came["prediction_count"]) == (60, 60)
    other = label_studio.ask("POST", "/api/users/", {"email": OTHER, "username": "second"})["id"]

    tasks = {number: label_studio.ask("GET", f"/api/tasks/{number}")["data"] for number in came["task_ids"]}
    assert list(tasks.values()) == [task["data"] for task in sent]
    asked = {number: truths[data["image_id"]] for number, data in tasks.items()}
    clear = [number for number, truth in asked.items() if truth["kind"] == "known"]
    tied, skipped, unanswered = clear[0], clear[1], clear[2]
    answers = {n: t for n, t in asked.items() if n not in (skipped, unanswered)}

    def annotate(task: int, result: list[dict[str, Any]], **more: Any) -> None:
        label_studio.ask("POST", f"/api/tasks/{task}/annotations/", {"result": result, **more})

    for number, truth in answers.items():
        annotate(number, results(truth))
    annotate(skipped, [], was_cancelled=True)
    wrong = "1" if asked[tied]["label"] == "0" else "0"
    annotate(tied, [chosen("label", wrong)], completed_by=other)
    for form in ("JSON", "JSON_MIN"):
        found = label_studio.ask(
            "GET", f"/api/projects/{project}/export?exportType={form}&download_all_tasks=true"
        )
        (tmp_path / f"{form}.json").write_text(json.dumps(found))

    found = json.loads(terminal.run("labels", "import", *config, "JSON.json", "--json").stdout)
    assert (found["taken"], found["known"], found["refused"], found["written"]) == (60, 0, [], True)
    ((disagree),) = found["disagree"]
    assert disagree["id"] == asked[tied]["id"] and "tie" in disagree["outcome"]
    assert sorted(disagree["answers"]) == ["label-studio:1", f"label-studio:{other}"]
    for form in ("JSON", "JSON_MIN"):
        again = json.loads(terminal.run("labels", "import", *config, f"{form}.json", "--json").stdout)
        assert (again["taken"], again["written"], again["refused"]) == (0, False, [])
        assert again["known"] == (60 if form == "JSON" else 59), (
            "of what was skipped the short form says nothing"
        )

    status = json.loads(terminal.run("status", *config, "--json").stdout)
    assert status["open_questions"] == 1, "what nobody has looked at; a tie waits for the next round"
    terminal.run("run", *config, "--rounds", "2")
    metrics = json.loads((tmp_path / "runs/quickstart/rounds/001/metrics.json").read_text())
    kinds = [truth["kind"] for truth in answers.values()]
    assert metrics["labeled_total"] == 40 + kinds.count("known") - 1
    expected = {"unknown-class": kinds.count("unknown"), "out-of-world": kinds.count("far"), "skipped": 1}
    assert metrics["refused"] == {status: count for status, count in expected.items() if count}
    query = pq.read_table(tmp_path / "runs/quickstart/rounds/001/query.parquet")["id"].to_pylist()
    assert not {truth["id"] for number, truth in answers.items() if number != tied}.intersection(query)
