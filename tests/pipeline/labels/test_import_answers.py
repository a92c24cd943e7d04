"""Answers back into a workspace: what is taken, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.errors import LabelError
from pipeline.labels.files import label_keys
from tests.support.hand_off import Project, Said, annotated, filled, png, why

# ------------------------------------------------------------------------------------------------------- import


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "aa", "label": "cat"}, "unknown id; did you mean a?"),
        ({"id": "", "label": "cat"}, "no id"),
        ({"id": "h", "label": "cat"}, "no committed round has asked about it"),
        ({"id": "a", "label": "dgo"}, "label 'dgo' is not in the taxonomy; did you mean dog?"),
        ({"id": "a", "label": "cat", "status": "labelled"}, "status 'labelled'; did you mean labeled?"),
        ({"id": "a", "status": "labeled"}, "label None is not in the taxonomy"),
        (
            {"id": "a", "label": "cat", "status": "out-of-world"},
            "status 'out-of-world' and label 'cat' at once",
        ),
        ({"id": "a", "label": "x" * 600, "status": "unknown-class"}, "is no name: at most 512 characters"),
        ({"id": "a", "label": "cat", "annotator": "x\ny"}, "the annotator 'x\\ny' is no name"),
        ({"id": "a", "label": "cat", "fingerprint": "sha256:0"}, "its image has changed since it was shown"),
    ],
)
def test_a_row_is_refused_and_nothing_is_taken(project: Project, row: dict[str, Any], message: str) -> None:
    place = project.write("x.csv", {"id": "b", "label": "cat"}, row)
    found = project.take(place)
    ((refused),) = found["refused"]
    assert (refused["file"], refused["where"], refused["id"]) == (place, "row 3", row["id"])
    assert message in refused["why"]
    assert (found["taken"], found["written"], found["batch"]) == (0, False, None)
    assert label_keys(project.workspace) == []
    found = project.take(place, partial=True)
    assert (found["taken"], len(found["refused"]), found["written"]) == (1, 1, True)
    assert project.labels().labeled() == (["b"], ["cat"])


def test_one_annotator_who_says_two_things_is_heard_in_neither(project: Project) -> None:
    rows = [
        {"id": "a", "label": "cat"},
        {"id": "b", "label": "cat"},
        {"id": "a", "label": "dog"},
        {"id": "b", "label": "cat"},
    ]
    place = project.write("x.jsonl", *rows)
    found = project.take(place, partial=True)
    assert [row["where"] for row in found["refused"]] == ["line 1", "line 3"]
    assert (
        found["refused"][0]["why"] == f"somebody without a name says 'cat' here, and 'dog' in {place}, line 3"
    )
    assert [row["why"] for row in found["remarks"]] == [f"says what {place}, line 2 says already"]
    assert project.labels().labeled() == (["b"], ["cat"])
    named = [row | {"annotator": who} for row, who in zip(rows, ["ann", "ann", "bob", "bob"], strict=True)]
    assert project.take(project.write("y.jsonl", *named))["refused"] == []


def test_an_image_that_has_changed_is_no_longer_the_one_that_was_shown(project: Project) -> None:
    place = project.out("jsonl")
    answers = {name: Said("labeled", "cat", "ann", None) for name in "abcde"}
    Path(place).write_bytes(filled("jsonl", Path(place).read_bytes(), answers))
    project.pool({name: png(i) for i, name in enumerate("abc")} | {"d": png(200)})
    found = project.take(place, partial=True)
    assert found["taken"] == 3
    assert why(found) == {
        "d": "its image has changed since it was shown",
        "e": "its image is not as it was shown: no longer in the pool",
    }
    project.store.delete("pool/a.parquet")
    assert project.take(place, partial=True)["known"] == 3, "what is known needs no image"


def test_a_later_word_stands_and_an_old_file_does_not_bring_the_first_one_back(project: Project) -> None:
    first = project.write("1.csv", {"id": "a", "label": "cat", "annotator": "ann"})
    second = project.write("2.csv", {"id": "a", "label": "dog", "annotator": "ann"})
    project.take(first)
    project.take(second)
    assert project.labels().labeled() == (["a"], ["dog"])
    found = project.take(first)
    assert (found["taken"], found["known"]) == (0, 1)
    assert "overruled since" in found["remarks"][0]["why"]
    assert project.labels().labeled() == (["a"], ["dog"])
    noon = datetime(2026, 5, 11, 12, tzinfo=UTC)
    project.take(project.write("3.csv", {"id": "a", "label": "cat", "annotator": "ann", "at": noon}))
    assert project.labels().labeled() == (["a"], ["cat"])


def test_the_last_time_counts_within_files_and_between_them(project: Project) -> None:
    def at(hour: int, label: str) -> dict[str, Any]:
        return {"id": "a", "label": label, "annotator": "ann", "at": datetime(2026, 5, 11, hour, tzinfo=UTC)}

    noon = project.write("noon.csv", at(12, "dog"), at(11, "cat"))
    found = project.take(noon)
    assert (found["taken"], found["refused"]) == (1, [])
    assert [(row["where"], row["why"]) for row in found["remarks"]] == [
        ("row 3", "the same annotator has answered later")
    ]
    found = project.take(noon)
    assert (found["taken"], found["known"]) == (0, 1)
    assert project.take(project.write("late.csv", at(10, "café")))["taken"] == 0
    assert project.labels().labeled() == (["a"], ["dog"])
    assert project.take(project.write("next.csv", at(13, "cat")))["taken"] == 1
    assert project.labels().labeled() == (["a"], ["cat"])


def test_who_skips_first_and_answers_then_has_answered(project: Project) -> None:
    place = project.out("label-studio")
    tasks = json.loads(Path(place).read_bytes())
    skip = annotated(Said("skipped", None, "ann", datetime(2026, 5, 11, 11, tzinfo=UTC)))
    answer = annotated(Said("labeled", "cat", "ann", datetime(2026, 5, 11, 12, tzinfo=UTC)))
    tasks[0]["annotations"] = [skip, answer]
    Path(place).write_text(json.dumps(tasks))
    for taken in (1, 0):
        found = project.take(place)
        assert (found["taken"], found["refused"]) == (taken, [])
        assert project.labels().labeled() == (["a"], ["cat"])


def test_batches_lie_behind_all_that_are_there(project: Project) -> None:
    def add(label: str) -> str:
        place = project.write(f"{label}.csv", {"id": "a", "label": label})
        batch: str = project.take(place)["batch"]
        return batch.rpartition("/")[2][:15]

    assert add("cat") == "001-import-0000"
    assert add("dog") == "001-import-0001"
    assert project.labels().labeled() == (["a"], ["dog"])
    rows = [{"id": "a", "label": "cat", "status": "labeled"}]
    project.workspace.write_table("labels/001-round-000.parquet", pa.Table.from_pylist(rows))
    assert add("x,y;z") == "002-import-0000"
    assert project.labels().labeled() == (["a"], ["x,y;z"])
    project.commit(1, ["b"])
    project.commit(2, ["c"])
    assert add("café") == "003-import-0000"


def test_a_dry_run_writes_nothing_and_says_the_same(project: Project) -> None:
    place = project.write("x.csv", {"id": "a", "label": "cat"})
    dry = project.take(place, dry_run=True)
    assert label_keys(project.workspace) == []
    assert project.take(place) == dry | {"written": True}


def test_files_that_are_none_stop_it_all(project: Project) -> None:
    good = project.write("x.csv", {"id": "a", "label": "cat"})
    project.store.put("bad.csv", b"id,label\na\n")
    project.store.put("x.xls", b"")
    (Path(project.base) / "folder.csv").mkdir()
    for place, message in (
        ("bad.csv", r"bad\.csv, row 2: 1 cells under 2 names"),
        ("x.xls", r"x\.xls: its name should end in one of \.csv, \.json, \.jsonl, \.parquet"),
        ("none.csv", r"none\.csv: no such file"),
        ("folder.csv", r"folder\.csv: no such file"),
    ):
        with pytest.raises(LabelError, match=message):
            project.take(good, f"{project.base}/{place}", partial=True)
    assert label_keys(project.workspace) == []
