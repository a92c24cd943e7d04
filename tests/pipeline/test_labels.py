"""Labels: what is read, what is refused with file and row, and what many batches add up to."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Config
from pipeline.errors import LabelError
from pipeline.labels import Labels, batches, check_batch, label_table, read_file, read_labels
from pipeline.storage import Store
from pipeline.types import LABELS, Label
from pipeline.workspace import Workspace

TAXONOMY = ("cat", "dog", "3")
MakeConfig = Callable[..., Config]


def checked(**columns: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = check_batch(pa.table(columns), "a.parquet", TAXONOMY).to_pylist()
    return found


def answers(store: Store, *files: dict[str, Any]) -> Labels:
    workspace = Workspace(store)
    for number, columns in enumerate(files):
        workspace.write_table(f"labels/{number:03d}-x.parquet", pa.table(columns))
    return read_labels(workspace, batches(workspace), TAXONOMY)


def test_only_id_and_label_must_be_there() -> None:
    assert checked(label=["cat", None, "3"], id=["a", "b", "c"], extra=[1, 2, 3]) == [
        {"id": "a", "label": "cat", "status": "labeled", "annotator": "", "at": None},
        {"id": "b", "label": None, "status": "skipped", "annotator": "", "at": None},
        {"id": "c", "label": "3", "status": "labeled", "annotator": "", "at": None},
    ]


def test_numbers_are_read_as_names() -> None:
    (row,) = checked(id=[17], label=[3], annotator=[5])
    assert (row["id"], row["label"], row["annotator"]) == ("17", "3", "5")


NOON = datetime(2024, 5, 11, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "at",
    [
        NOON,
        NOON.replace(tzinfo=None),
        NOON.astimezone(timezone(timedelta(hours=5))),
        "2024-05-11T12:00:00",
        "2024-05-11 12:00:00+00:00",
        "2024-05-11T14:00:00+02:00",
        "2024-05-11T12:00:00Z",
    ],
)
def test_times_of_any_kind_are_one_time(at: object) -> None:
    assert checked(id=["a", "b"], label=["cat", "cat"], at=[at, None])[0]["at"] == NOON


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"idd": ["a"], "label": ["cat"]}, r"a\.parquet: no column 'id'; did you mean idd\?"),
        ({"id": ["a"]}, r"a\.parquet: no column 'label'; known: id"),
        ({"id": ["a", None], "label": ["cat", "cat"]}, r"a\.parquet, row 1: no id"),
        ({"id": ["a", ""], "label": ["cat", "cat"]}, r"a\.parquet, row 1: no id"),
        ({"id": ["a", "b"], "label": ["cat", "dgo"]}, r"row 1: label 'dgo' is not in the taxonomy; did you mean dog\?"),
        ({"id": ["a"], "label": [None], "status": ["labeled"]}, r"row 0: label None is not in the taxonomy"),
        ({"id": ["a"], "label": [3.0]}, r"row 0: label '3\.0' is not in the taxonomy; did you mean 3\?"),
        ({"id": ["a"], "label": [None], "status": ["skiped"]}, r"row 0: status 'skiped'; did you mean skipped\?"),
        ({"id": ["a"], "label": [None], "status": [7]}, r"row 0: status 7; known: "),
        ({"id": ["a"], "label": ["cat"], "at": ["yesterday"]}, r"a\.parquet: column 'at' does not hold times"),
        ({"id": ["a"], "label": ["cat"], "at": [5]}, r"a\.parquet: column 'at' does not hold times"),
        ({"id": ["a"], "label": ["cat"], "at": [date(2024, 5, 11)]}, r"a\.parquet: column 'at' does not hold times"),
    ],
)  # fmt: skip
def test_what_is_wrong_names_file_and_row(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(LabelError, match=message):
        checked(**columns)


def test_a_refusal_needs_no_label_in_the_taxonomy() -> None:
    rows = checked(id=["a", "b"], label=["bird", None], status=["unknown-class", "out-of-world"])
    assert [(row["label"], row["status"]) for row in rows] == [
        ("bird", "unknown-class"),
        (None, "out-of-world"),
    ]


def test_a_later_batch_overrules_an_earlier_one(store: Store) -> None:
    found = answers(
        store,
        {"id": ["c", "a", "b"], "label": ["cat", "cat", "cat"]},
        {"id": ["b", "d"], "label": ["dog", None], "status": ["labeled", "out-of-world"]},
        {"id": ["a"], "label": [None]},
    )
    assert found.labeled() == (["b", "c"], ["dog", "cat"])
    assert found.answered() == {"a", "b", "c", "d"}
    assert found.counts() == {"cat": 1, "dog": 1}
    assert found.refused() == {"out-of-world": 1, "skipped": 1}


def test_batches_are_read_in_the_order_of_their_names(store: Store) -> None:
    workspace = Workspace(store)
    for name, label in (("010-b", "dog"), ("002-z", "cat")):
        workspace.write_table(f"labels/{name}.parquet", pa.table({"id": ["a"], "label": [label]}))
    store.put("labels/notes.txt", b"")
    assert batches(workspace) == ["labels/002-z.parquet", "labels/010-b.parquet"]
    assert read_labels(workspace, batches(workspace), TAXONOMY).counts() == {"dog": 1}


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


rows_of_labels = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from(["cat", "dog", None])), max_size=12
)


@given(st.lists(rows_of_labels, max_size=4))
def test_the_last_answer_to_each_id_stands(files: list[list[tuple[str, str | None]]]) -> None:
    """Against a dictionary filled in order."""
    want: dict[str, str | None] = {}
    tables = []
    for rows in files:
        want |= dict(rows)
        tables.append(
            check_batch(
                pa.table(
                    {
                        "id": pa.array([r[0] for r in rows], pa.string()),
                        "label": pa.array([r[1] for r in rows], pa.string()),
                    }
                ),
                "x",
                TAXONOMY,
            )
        )
    found = Labels.of(tables)
    assert dict(zip(*found.labeled(), strict=True)) == {k: v for k, v in want.items() if v is not None}
    assert found.answered() == set(want)
    assert found.table["id"].to_pylist() == sorted(want)


def test_a_table_of_labels_is_sorted_by_id() -> None:
    table = label_table([Label("b", None, "skipped", "x"), Label("a", "cat", "labeled", "x")])
    assert table.schema == LABELS
    assert table["id"].to_pylist() == ["a", "b"]


# ------------------------------------------------------------------------------------------- files of people


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def test_labels_are_read_from_a_file_or_a_folder(store: Store, make_config: MakeConfig) -> None:
    store.put("b.parquet", parquet(id=[2], label=["dog"], note=["x"]))
    store.put("a.parquet", parquet(id=[1], label=["cat"]))
    store.put("readme.txt", b"")
    both = read_file(store.uri, make_config())
    assert both.select(["id", "label"]).to_pylist() == [{"id": 1, "label": "cat"}, {"id": 2, "label": "dog"}]
    assert read_file(store.url("a.parquet"), make_config()).num_rows == 1


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
        read_file(store.uri, make_config())
    assert store.uri in str(raised.value)
