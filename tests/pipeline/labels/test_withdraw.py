"""Images that must go: out of all later rounds, and what shows them is deleted."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.encoding import to_parquet
from pipeline.errors import LabelError
from pipeline.labels.export_questions import export
from pipeline.labels.files import label_keys
from pipeline.labels.withdraw import withdraw
from tests.support.hand_off import Project, why


def labeled(ids: list[str]) -> pa.Table:
    return pa.table({"id": ids, "target": pa.array([0] * len(ids), pa.int32())})


@pytest.fixture
def learned(project: Project) -> Project:
    """Round 0 has learned from f and g and asked about a to e; round 1 has asked about h."""
    initial = pa.table({"id": ["f", "g"], "label": ["cat", "dog"]})
    project.workspace.write_table("labels/000-initial.parquet", initial)
    project.commit(1, ["h"])
    for index, ids in ((0, ["f", "g"]), (1, ["f", "g", "a"])):
        project.workspace.write_table(f"rounds/{index:03d}/labeled.parquet", labeled(ids))
        for name in ("report.html", "labeled-features.safetensors", "bank.safetensors"):
            project.workspace.store.put(f"rounds/{index:03d}/{name}", f"{name} {index}".encode())
        project.workspace.store.put(f"mlflow/artifacts/x{index}/report.html", f"report.html {index}".encode())
    project.take(project.write("x.csv", {"id": "a", "label": "cat"}, {"id": "b", "label": "dog"}))
    return project


def test_a_withdrawn_image_is_neither_learned_from_nor_asked_about_nor_taken_back(learned: Project) -> None:
    before = {key: learned.workspace.store.get(key) for key in label_keys(learned.workspace)}
    assert learned.labels().labeled()[0] == ["a", "b", "f", "g"]
    found = withdraw(learned.config, ["a", "c"])
    labels = learned.labels()
    assert labels.labeled()[0] == ["b", "f", "g"]
    assert labels.withdrawn() == {"a", "c"} <= labels.answered()
    assert labels.refused() == {}
    assert {key: learned.workspace.store.get(key) for key in before} == before, "no batch is rewritten"
    assert (found["withdrawn"], found["known"]) == (["a", "c"], 0)
    again = learned.take(
        learned.write("y.csv", {"id": "a", "label": "dog"}, {"id": "d", "label": "dog"}), partial=True
    )
    assert why(again) == {"a": "the image was withdrawn"}
    assert learned.labels().withdrawn() == {"a", "c"}
    for everything, ids in ((False, ["e"]), (True, ["b", "d", "e"])):
        place = f"{learned.base}/{everything}.jsonl"
        assert export(learned.config, "jsonl", place, index=0, everything=everything)["questions"] == len(ids)


def test_what_shows_it_or_holds_its_features_is_deleted_and_on_record(learned: Project) -> None:
    found = withdraw(learned.config, ["a"])
    store = learned.workspace.store
    gone = [
        "rounds/000/report.html",
        "rounds/001/labeled-features.safetensors",
        "mlflow/artifacts/x0/report.html",
    ]
    assert sorted(found["deleted"]) == sorted(store.url(key) for key in gone)
    assert not any(store.exists(key) for key in gone)
    kept = [
        "rounds/001/report.html",
        "rounds/000/labeled-features.safetensors",
        "mlflow/artifacts/x1/report.html",
    ]
    assert all(store.exists(key) for key in [*kept, "rounds/001/bank.safetensors"])
    assert (found["learned"], found["shown"], found["under_way"]) == ([1], [0], None)
    (record,) = learned.workspace.keys("withdrawn/")
    said = learned.workspace.read_json(record)
    assert said == {
        "ids": ["a"],
        "deleted": sorted(gone, key=said["deleted"].index),
        "learned": [1],
        "shown": [0],
    }
    again = withdraw(learned.config, ["a"])
    assert (again["known"], again["batch"], again["deleted"]) == (1, None, [])
    assert learned.workspace.read_json(record) == said


def test_a_round_under_way_is_named_and_left_alone(learned: Project) -> None:
    learned.workspace.write_json("rounds/002/plan.json", {})
    learned.workspace.write_table("rounds/002/labeled.parquet", labeled(["b"]))
    learned.workspace.store.put("rounds/002/labeled-features.safetensors", b"x")
    found = withdraw(learned.config, ["b"])
    assert (found["learned"], found["under_way"]) == ([], 2)
    assert learned.workspace.exists("rounds/002/labeled-features.safetensors")


def test_an_image_that_nobody_knows_stops_it_all(learned: Project) -> None:
    with pytest.raises(LabelError, match="'fff' is no image that this project knows; did you mean f"):
        withdraw(learned.config, ["a", "fff"])
    assert learned.labels().withdrawn() == frozenset()


def test_a_dry_run_changes_nothing(learned: Project) -> None:
    before = learned.workspace.keys("")
    found = withdraw(learned.config, ["a"], dry_run=True)
    assert len(found["deleted"]) == 3 and not found["written"]
    assert learned.workspace.keys("") == before


def test_imports_lie_where_they_would_without_tombstones(learned: Project) -> None:
    withdraw(learned.config, ["a"])
    found = learned.take(learned.write("y.csv", {"id": "d", "label": "dog"}))
    assert "/002-import-0001-" in found["batch"]


def test_a_tombstone_by_hand_is_one_too(learned: Project) -> None:
    table = pa.table({"id": ["b"], "label": pa.nulls(1, pa.string()), "status": ["withdrawn"]})
    learned.workspace.store.put("labels/000-a.parquet", to_parquet(table))
    assert learned.labels().withdrawn() == {"b"}, "whatever is said later"
    place = learned.write("y.csv", {"id": "d", "status": "withdrawn"})
    assert "status 'withdrawn'" in why(learned.take(place))["d"]
