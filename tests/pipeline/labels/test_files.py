"""Stored batches of labels, and label files of any kind."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.project import Config
from pipeline.errors import ArtefactMissing, LabelError
from pipeline.labels.files import LabelFiles, label_keys
from pipeline.labels.forms.tables import label_table, read_tables
from pipeline.labels.tally import Labels
from pipeline.store.opening import Store
from pipeline.types import LABELS, Label
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.plan import Plan
from tests.support.counting_store import READS, CountingStore, label_reads

TAXONOMY = ("cat", "dog", "3")


MakeConfig = Callable[..., Config]


def answers(store: Store, *files: dict[str, Any]) -> Labels:
    workspace = Workspace(store)
    for number, columns in enumerate(files):
        workspace.write_table(f"labels/{number:03d}-x.parquet", pa.table(columns))
    return LabelFiles.read(workspace).labels(TAXONOMY)


def test_a_later_batch_overrules_an_earlier_one(store: Store) -> None:
    found = answers(
        store,
        {"id": ["c", "a", "b"], "label": ["cat", "cat", "cat"]},
        {"id": ["b", "d"], "label": ["dog", None], "status": ["labeled", "out-of-world"]},
        {"id": ["a", "c"], "label": [None, None], "status": ["skipped", None]},
    )
    assert found.labeled() == (["b", "c"], ["dog", "cat"])
    assert found.answered() == {"a", "b", "c", "d"}
    assert found.counts() == {"cat": 1, "dog": 1}
    assert found.refused() == {"out-of-world": 1, "skipped": 1}


def test_an_export_that_nobody_has_filled_in_is_no_answer(store: Store) -> None:
    found = answers(store, {"id": ["a", "b"], "label": pa.nulls(2, pa.string()), "status": ["", None]})
    assert (found.answered(), found.refused()) == (frozenset(), {})


def test_a_class_that_could_be_chosen_is_no_proposal(store: Store) -> None:
    """Of a class that has joined since, it is one, and has become a label."""
    Plan(taxonomy=TAXONOMY).write(Folder.of_round(Workspace(store), 0))
    Workspace(store).write_table(
        "labels/001-x.parquet", pa.table({"id": ["a"], "label": ["owl"], "status": ["unknown-class"]})
    )
    files = LabelFiles.read(Workspace(store))
    assert files.labels(TAXONOMY).proposed() == {"owl": 1}
    assert files.labels((*TAXONOMY, "owl")).counts() == {"owl": 1}
    Workspace(store).write_table(
        "labels/002-x.parquet", pa.table({"id": ["a"], "label": ["dog"], "status": ["unknown-class"]})
    )
    with pytest.raises(
        LabelError, match=r"002-x\.parquet, row 0: status 'unknown-class' and label 'dog' at once"
    ):
        files.refreshed().labels(TAXONOMY)


def test_batches_are_read_in_the_order_of_their_names(store: Store) -> None:
    workspace = Workspace(store)
    for name, label in (("010-b", "dog"), ("002-z", "cat")):
        workspace.write_table(f"labels/{name}.parquet", pa.table({"id": ["a"], "label": [label]}))
    store.put("labels/notes.txt", b"")
    assert label_keys(workspace) == ["labels/002-z.parquet", "labels/010-b.parquet"]
    assert LabelFiles.read(workspace).labels(TAXONOMY).counts() == {"dog": 1}


def test_no_batches_are_no_labels(store: Store) -> None:
    found = answers(store)
    assert found.labeled() == ([], [])
    assert found.answered() == frozenset()
    assert (found.counts(), found.refused()) == ({}, {})


def test_a_bad_row_in_a_batch_names_the_file(store: Store) -> None:
    with pytest.raises(LabelError, match=r"labels/001-x\.parquet, row 1: label 'dgo'"):
        answers(store, {"id": ["a"], "label": ["cat"]}, {"id": ["b", "c"], "label": ["cat", "dgo"]})


def test_a_batch_that_is_no_parquet_names_the_file(store: Store) -> None:
    store.put("labels/000-x.parquet", b"id,label\na,cat\n")
    with pytest.raises(LabelError, match=r"labels/000-x\.parquet: not a Parquet file"):
        answers(store)


def test_a_table_of_labels_is_sorted_by_id() -> None:
    table = label_table([Label("b", None, "skipped", "x"), Label("a", "cat", "labeled", "x")])
    assert table.schema == LABELS
    assert table["id"].to_pylist() == ["a", "b"]


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def test_labels_are_read_from_a_file_or_a_folder(store: Store, make_config: MakeConfig) -> None:
    store.put("b.parquet", parquet(id=[2], label=["dog"], note=["x"]))
    store.put("a.parquet", parquet(id=[1], label=["cat"]))
    store.put("readme.txt", b"")
    both = read_tables(store.uri, make_config().storage)
    assert both.select(["id", "label"]).to_pylist() == [{"id": 1, "label": "cat"}, {"id": 2, "label": "dog"}]
    assert read_tables(store.url("a.parquet"), make_config().storage).num_rows == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "does not exist or holds no Parquet file"),
        ({"a.csv": b"id,label\n"}, "does not exist or holds no Parquet file"),
        ({"a.parquet": b"id,label\n"}, r"a\.parquet: not a Parquet file"),
        ({"a.parquet": parquet(id=[1]), "b.parquet": parquet(id=[b"x"])}, "its files do not fit together"),
    ],
)
def test_files_that_can_not_be_read_are_named(
    store: Store, make_config: MakeConfig, files: dict[str, bytes], message: str
) -> None:
    for key, data in files.items():
        store.put(key, data)
    with pytest.raises(LabelError, match=message) as raised:
        read_tables(store.uri, make_config().storage)
    assert store.uri in str(raised.value)


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


def test_a_class_is_called_by_its_name_of_today(workspace: Workspace) -> None:
    """Labels and proposals alike; a plan's own labels by the names of its day."""
    answer(workspace, "000-initial", ["a"], "hound")
    answer(workspace, "001-answers", ["b"], "dog")
    proposed = {"id": ["c"], "label": ["wolff"], "status": ["unknown-class"]}
    workspace.write_table("labels/002-answers.parquet", pa.table(proposed))
    files = LabelFiles.read(workspace, {"hound": "dog", "wolff": "wolf"})
    found = files.labels(TAXONOMY)
    assert (found.counts(), found.proposed()) == ({"dog": 2}, {"wolf": 1})
    assert files.labels((*TAXONOMY, "hound")).counts() == {"dog": 2}, (
        "merged: the old class keeps its place, empty"
    )
    plan = Plan(labels=tuple(files.keys[:1]), label_digests=files.digests, config={"labels": {"renamed": {}}})
    assert files.as_planned(plan).labels(("hound", "cat")).counts() == {"hound": 1}
    assert files.as_planned(plan.model_copy(update={"config": {}})).labels(("hound", "cat")).counts() == {
        "hound": 1
    }
