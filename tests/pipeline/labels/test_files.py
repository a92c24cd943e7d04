"""Label files are read once, checked once for each taxonomy, and new ones are noticed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from counting_store import READS, CountingStore, label_reads

from pipeline.errors import ArtefactMissing, LabelError
from pipeline.labels.files import LabelFiles, label_keys
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.plan import Plan

TAXONOMY = ("cat", "dog")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    READS.clear()
    return Workspace(CountingStore(str(tmp_path)))


def answer(workspace: Workspace, key: str, ids: Sequence[str], label: str = "cat") -> None:
    workspace.write_table(f"labels/{key}.parquet", pa.table({"id": ids, "label": [label] * len(ids)}))


def test_files_come_in_the_order_of_their_keys(workspace: Workspace) -> None:
    answer(workspace, "010-b", ["a"], "dog")
    answer(workspace, "002-z", ["a"], "cat")
    workspace.write_json("labels/notes.json", {})
    assert label_keys(workspace) == ["labels/002-z.parquet", "labels/010-b.parquet"]
    files = LabelFiles.read(workspace)
    assert files.keys == label_keys(workspace)
    assert files.labels(TAXONOMY).counts() == {"dog": 1}
    assert files.digests == {key: workspace.digest(key) for key in files.keys}
    assert LabelFiles(workspace).labels(TAXONOMY).table.num_rows == 0


def test_each_file_is_read_once_whatever_is_asked_of_it(workspace: Workspace) -> None:
    answer(workspace, "000-initial", ["a", "b"])
    answer(workspace, "001-answers", ["c"])
    files = LabelFiles.read(workspace)
    files.labels(TAXONOMY)
    files.labels((*TAXONOMY, "owl"))
    files.tables(TAXONOMY)
    files.digests  # noqa: B018
    again = files.refreshed()
    assert again is files
    planned = files.as_planned(Plan(labels=tuple(files.keys), label_digests=files.digests))
    assert planned.labels(TAXONOMY).answered() == {"a", "b", "c"}
    assert label_reads() == {"000-initial.parquet": 1, "001-answers.parquet": 1}


def test_labels_of_one_taxonomy_are_added_up_once(workspace: Workspace) -> None:
    answer(workspace, "000-initial", ["a"])
    files = LabelFiles.read(workspace)
    assert files.labels(TAXONOMY) is files.labels(list(TAXONOMY))
    assert files.labels(TAXONOMY) is not files.labels((*TAXONOMY, "owl"))


def test_a_new_file_is_noticed_and_is_the_only_one_read(workspace: Workspace) -> None:
    answer(workspace, "000-initial", ["a"])
    files = LabelFiles.read(workspace)
    answer(workspace, "001-answers", ["b"])
    assert files.labels(TAXONOMY).answered() == {"a"}, "a value stays what it is"
    now = files.refreshed()
    assert now.labels(TAXONOMY).answered() == {"a", "b"}
    assert label_reads() == {"000-initial.parquet": 1, "001-answers.parquet": 1}
    workspace.store.delete("labels/001-answers.parquet")
    assert now.refreshed().keys == ["labels/000-initial.parquet"]


def test_a_plan_names_its_files_and_what_they_were(workspace: Workspace) -> None:
    answer(workspace, "000-initial", ["a"])
    files = LabelFiles.read(workspace)
    plan = Plan(index=4, labels=tuple(files.keys), label_digests=files.digests)
    answer(workspace, "001-later", ["b"])
    assert files.refreshed().as_planned(plan).labels(TAXONOMY).answered() == {"a"}
    answer(workspace, "000-initial", ["a", "x"])
    with pytest.raises(LabelError, match=r"000-initial\.parquet has changed since round 004 was planned"):
        LabelFiles.read(workspace).as_planned(plan)
    workspace.store.put("labels/000-initial.parquet", b"nothing of the kind")
    with pytest.raises(LabelError, match=r"000-initial\.parquet has changed since round 004 was planned"):
        LabelFiles(workspace).as_planned(plan)
    workspace.store.delete("labels/000-initial.parquet")
    with pytest.raises(ArtefactMissing):
        LabelFiles(workspace).as_planned(plan)


def test_what_is_wrong_is_told_when_the_labels_are_wanted(workspace: Workspace) -> None:
    answer(workspace, "000-initial", ["a"], "zebra")
    files = LabelFiles.read(workspace)
    with pytest.raises(LabelError, match="row 0: label 'zebra' is not in the taxonomy"):
        files.labels(TAXONOMY)
    assert files.labels((*TAXONOMY, "zebra")).counts() == {"zebra": 1}
    workspace.store.put("labels/001-x.parquet", b"PAR1 or so")
    with pytest.raises(LabelError, match=r"001-x\.parquet: not a Parquet file"):
        files.refreshed().labels((*TAXONOMY, "zebra"))
