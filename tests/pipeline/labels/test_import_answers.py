"""Answers back into a workspace: what is taken, and what is refused."""

from __future__ import annotations

import io
import json
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.project import Config
from pipeline.errors import LabelError
from pipeline.labels.files import label_keys
from pipeline.labels.forms.tables import Columns
from tests.support.hand_off import TAXONOMY, Project, Said, annotated, filled, png, why

MakeConfig = Callable[..., Config]

# ------------------------------------------------------------------------------------------------------- import


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "aa", "label": "cat"}, "unknown id; did you mean a?"),
        ({"id": "", "label": "cat"}, "no id"),
        ({"id": "h", "label": "cat"}, "no committed round has asked about it; --unasked takes it"),
        ({"id": "zz", "label": "cat"}, "ids look like 'a'"),
        (
            {"id": "a", "label": "cat", "status": "unknown-class"},
            "status 'unknown-class' and label 'cat' at once",
        ),
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
    project.store.put("bad.csv", b'id,label\n"a\n')
    project.store.put("x.xls", b"")
    (Path(project.base) / "folder.csv").mkdir()
    for place, message in (
        ("bad.csv", r"bad\.csv: not CSV: "),
        ("x.xls", r"x\.xls: its name should end in one of \.csv, \.json, \.jsonl, \.parquet"),
        ("none.csv", r"none\.csv: no such file"),
        ("folder.csv", r"folder\.csv: no such file"),
    ):
        with pytest.raises(LabelError, match=message):
            project.take(good, f"{project.base}/{place}", partial=True)
    assert label_keys(project.workspace) == []


def test_an_image_that_nobody_asked_about_is_taken_where_it_is_said(project: Project) -> None:
    place = project.write("x.csv", {"id": "h", "label": "cat"}, {"id": "nobody", "label": "cat"})
    found = project.take(place, unasked=True, partial=True)
    assert (found["taken"], list(why(found))) == (1, ["nobody"])
    assert project.labels().labeled() == (["h"], ["cat"])
    again = project.take(project.write("y.csv", {"id": "h", "label": "dog"}))
    assert again["corrected"] == [{"id": "h", "was": "'cat'", "now": "'dog'"}], (
        "it has a label: no question is needed"
    )


def test_a_correction_is_told_as_such(project: Project) -> None:
    first = pa.table({"id": ["f", "g"], "label": ["cat", "cat"]})
    project.workspace.write_table("labels/000-initial.parquet", first)
    project.take(project.write("1.csv", {"id": "a", "label": "cat", "annotator": "ann"}))
    place = project.write(
        "2.csv",
        {"id": "a", "label": "dog", "annotator": "ann"},
        {"id": "b", "label": "dog", "annotator": "ann"},
        {"id": "f", "label": "dog", "annotator": "ann"},
        {"id": "g", "status": "out-of-world", "annotator": "ann"},
    )
    found = project.take(place)
    assert (found["taken"], found["refused"]) == (4, [])
    assert found["corrected"] == [
        {"id": "a", "was": "'cat'", "now": "'dog'"},
        {"id": "f", "was": "'cat'", "now": "'dog'"},
        {"id": "g", "was": "'cat'", "now": "out-of-world"},
    ]
    assert project.labels().labeled() == (["a", "b", "f"], ["dog", "dog", "dog"])
    assert project.take(place)["corrected"] == []


def test_ids_are_found_however_a_spreadsheet_has_left_them(tmp_path: Path, make_config: MakeConfig) -> None:
    accented = "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    project = Project.lay(str(tmp_path), make_config, ["17", accented, "c", "99"], ["17", accented, "c"])
    table = pa.table({"id": pa.array([17.0]), "label": ["cat"]})
    project.store.put("1.parquet", parquet(table))
    project.store.put("2.csv", f"ID,Label\n{unicodedata.normalize('NFD', accented)},cat\n c ,dog\n".encode())
    project.store.put("3.csv", b"id,label\n99.0,dog\n")
    for name in ("1.parquet", "2.csv"):
        assert project.take(f"{project.base}/{name}")["refused"] == []
    assert project.take(f"{project.base}/3.csv", unasked=True)["refused"] == []
    assert dict(zip(*project.labels().labeled(), strict=True)) == {
        "17": "cat", accented: "cat", "c": "dog", "99": "dog"
    }  # fmt: skip


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def test_values_of_parquet_that_are_none_are_refused_alone(project: Project) -> None:
    late = pa.array([None, 9 * 10**15], pa.timestamp("ms", tz="UTC"))
    project.store.put("x.parquet", parquet(pa.table({"id": ["a", "b"], "label": ["cat", "cat"], "at": late})))
    found = project.take(f"{project.base}/x.parquet", partial=True)
    assert found["taken"] == 1
    assert "at: no value of type timestamp" in why(found)["b"]
    for at in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"):
        project.store.put("y.csv", f"id,label,at\nc,cat,{at}\nd,cat,\n".encode())
        found = project.take(f"{project.base}/y.csv")
        assert "outside the years" in why(found)["c"]


def test_paths_of_other_tools_are_read_below_the_pool(tmp_path: Path, make_config: MakeConfig) -> None:
    config = make_config(workspace=f"{tmp_path}/work", pool={"uri": f"{tmp_path}/pool"}, taxonomy=TAXONOMY)
    project = Project(str(tmp_path), config)
    for i, name in enumerate(("a.png", "b.png")):
        project.store.put(f"pool/{name}", png(i))
    uris = {name: project.store.url(f"pool/{name}") for name in ("a.png", "b.png")}
    project.commit(0, ["a.png", "b.png"], uris)
    project.store.put("x.csv", f"filepath,label\n{uris['a.png']},cat\n{tmp_path}/pool/x.png,cat\n".encode())
    with pytest.raises(
        LabelError, match=r"no column 'id'.*an id is an image's key below pool.uri.*--id-column"
    ):
        project.take(f"{tmp_path}/x.csv")
    found = project.take(f"{tmp_path}/x.csv", columns=Columns("filepath"), partial=True)
    assert (found["taken"], project.labels().labeled()) == (1, (["a.png"], ["cat"]))
    assert why(found) == {
        "x.png": "unknown id; did you mean b.png?; an id is an image's key below pool.uri, such as 'a.png'"
    }


def test_a_folder_of_a_target_storage_is_read_as_a_whole(project: Project) -> None:
    for number, name in enumerate("ab"):
        stored = annotated(Said("labeled", "cat", "ann", None)) | {"task": {"data": {"image_id": name}}}
        project.store.put(f"answers/{number}", json.dumps(stored).encode())
    project.store.put("answers/readme.md", b"")
    found = project.take(f"{project.base}/answers")
    assert (found["taken"], found["refused"]) == (2, [])


def test_tasks_of_others_are_told_and_left_out(project: Project) -> None:
    tasks = [
        {"data": {"image_id": "a"}, "annotations": [annotated(Said("labeled", "cat", "ann", None))]},
        {"data": {"image": "x"}, "annotations": [annotated(Said("labeled", "cat", "ann", None))]},
    ]
    project.store.put("x.json", json.dumps(tasks).encode())
    found = project.take(f"{project.base}/x.json")
    assert (found["taken"], found["refused"]) == (1, [])
    assert [(row["where"], row["why"]) for row in found["remarks"]] == [
        ("task 2", "no 'image_id': a task that `sisom labels export` has not made")
    ]


def test_answers_by_a_former_name_are_taken_by_the_one_of_today(project: Project) -> None:
    renamed = {"labels": project.config.labels.model_copy(update={"renamed": {"hound": "dog", "cat": "dog"}})}
    project.config = project.config.model_copy(update=renamed)
    place = project.write(
        "x.csv",
        {"id": "a", "label": "hound"},
        {"id": "b", "label": "cat"},
        {"id": "c", "label": "hound", "status": "unknown-class"},
    )
    found = project.take(place, partial=True)
    assert why(found) == {"c": "status 'unknown-class' and label 'hound' at once; leave one of them empty"}
    (batch,) = label_keys(project.workspace)
    assert project.workspace.read_table(batch)["label"].to_pylist() == ["dog", "dog"]


def test_an_image_of_a_labeled_set_may_be_answered_again(project: Project) -> None:
    """It is in no query and not in the pool; the last round has learned from it."""
    rows = {"id": ["cat/1.png"], "target": pa.array([0], pa.int32()), "set": pa.array([0], pa.int32())}
    project.workspace.write_table("rounds/000/labeled.parquet", pa.table(rows))
    found = project.take(project.write("x.csv", {"id": "cat/1.png", "label": "dog"}))
    assert found["corrected"] == [{"id": "cat/1.png", "was": "'cat'", "now": "'dog'"}]
    assert project.labels().labeled() == (["cat/1.png"], ["dog"])
