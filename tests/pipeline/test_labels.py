"""Labels: what is read, what is refused with file and row, and what many batches add up to."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.project import Config
from pipeline.errors import LabelError
from pipeline.labels.checks import check_batch
from pipeline.labels.files import LabelFiles, label_keys
from pipeline.labels.tables import label_table, read_tables
from pipeline.labels.tally import Labels
from pipeline.store.opening import Store
from pipeline.types import LABELS, Label
from pipeline.workspace.artefacts import Workspace

TAXONOMY = ("cat", "dog", "3")
MakeConfig = Callable[..., Config]


def checked(**columns: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = check_batch(pa.table(columns), "a.parquet", TAXONOMY).to_pylist()
    return found


def answers(store: Store, *files: dict[str, Any]) -> Labels:
    workspace = Workspace(store)
    for number, columns in enumerate(files):
        workspace.write_table(f"labels/{number:03d}-x.parquet", pa.table(columns))
    return LabelFiles.read(workspace).labels(TAXONOMY)


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


# --------------------------------------------------------------------------------------- several annotators


def told(*rows: tuple[str, str, str | None], taxonomy: tuple[str, ...] = TAXONOMY) -> Labels:
    """Answers of (annotator, label, status) to one image, each in a batch of its own."""
    tables = [
        pa.table(
            {
                "id": ["a"],
                "label": [label or None],
                "status": pa.array([status], pa.string()),
                "annotator": [who],
            }
        )
        for who, label, status in rows
    ]
    return Labels.of([check_batch(table, "x", taxonomy) for table in tables])


def outcome(found: Labels) -> tuple[Any, ...] | str:
    if found.tied():
        assert found.answered() == frozenset()
        return "tie"
    (row,) = found.table.select(["status", "label", "annotator"]).to_pylist()
    return tuple(row.values())


@pytest.mark.parametrize(
    ("rows", "want"),
    [
        ([("ann", "cat", None), ("bob", "dog", None)], "tie"),
        ([("ann", "cat", None), ("bob", "dog", None), ("cem", "dog", None)], ("labeled", "dog", "cem")),
        ([("ann", "cat", None), ("bob", "cat", None), ("cem", "dog", None)], ("labeled", "cat", "bob")),
        ([("ann", "cat", None), ("bob", "dog", None), ("cem", "3", None)], "tie"),
        # The last answer of each: ann has changed her mind, and bob has not gained a vote by saying it again.
        ([("ann", "cat", None), ("bob", "dog", None), ("ann", "dog", None)], ("labeled", "dog", "ann")),
        ([("ann", "cat", None), ("bob", "dog", None), ("bob", "dog", None)], "tie"),
        # Nobody's name: such an answer overrules, and is overruled.
        ([("", "cat", None), ("", "dog", None)], ("labeled", "dog", "")),
        ([("ann", "cat", None), ("bob", "dog", None), ("", "3", None)], ("labeled", "3", "")),
        ([("", "cat", None), ("ann", "dog", None)], ("labeled", "dog", "ann")),
        ([("ann", "cat", None), ("", "dog", None), ("bob", "3", None)], ("labeled", "3", "bob")),
        # Statuses are answers like classes; who skipped has no vote.
        ([("ann", "cat", None), ("bob", "", "out-of-world")], "tie"),
        ([("ann", "", "out-of-world"), ("b", "cat", None), ("c", "", "out-of-world")], ("out-of-world", None, "c")),
        ([("ann", "cat", None), ("bob", "", "skipped"), ("cem", "", "skipped")], ("labeled", "cat", "ann")),
        ([("ann", "", "skipped"), ("bob", "", "skipped")], ("skipped", None, "bob")),
        ([("ann", "cat", None), ("ann", "", "skipped")], ("skipped", None, "ann")),
        ([("ann", "bird", "unknown-class"), ("bob", "", "unknown-class")], "tie"),
        ([("ann", "bird", "unknown-class"), ("bob", "bird ", "unknown-class")], ("unknown-class", "bird", "bob")),
        # What else stands beside a refusal is no part of it.
        ([("ann", "cat", "out-of-world"), ("bob", "dog", "out-of-world")], ("out-of-world", None, "bob")),
    ],
)  # fmt: skip
def test_the_majority_decides_and_a_tie_is_no_answer(
    rows: list[tuple[str, str, str | None]], want: tuple[Any, ...] | str
) -> None:
    assert outcome(told(*rows)) == want


def test_a_proposed_class_that_has_joined_is_a_label() -> None:
    rows = [("ann", "bird", "unknown-class"), ("bob", "bird", "labeled")]
    with pytest.raises(LabelError, match="'bird' is not in the taxonomy"):
        told(*rows)
    assert outcome(told(*rows, taxonomy=(*TAXONOMY, "bird"))) == ("labeled", "bird", "bob")
    assert told(rows[0]).proposed() == {"bird": 1}
    assert told(rows[0], taxonomy=(*TAXONOMY, "bird")).proposed() == {}


def test_proposals_are_counted_by_name() -> None:
    names = ["wasp", "bird", None, " bird", " "]
    table = pa.table({"id": list("abcde"), "label": names, "status": ["unknown-class"] * 5})
    found = Labels.of([check_batch(table, "x", TAXONOMY)])
    assert list(found.proposed().items()) == [("bird", 2), ("wasp", 1)]
    assert found.labeled() == ([], [])
    assert found.refused() == {"unknown-class": 5}


votes = st.tuples(
    st.sampled_from("ab"), st.sampled_from(["ann", "bob", "cem", ""]), st.sampled_from(["cat", "dog", ""])
)


@given(st.lists(votes, max_size=14), st.lists(st.integers(0, 14), max_size=3))
def test_votes_against_counting_by_hand(rows: list[tuple[str, str, str]], cuts: list[int]) -> None:
    """However the rows are cut into batches."""
    edges = [0, *sorted(cuts), len(rows)]
    tables = []
    for start, stop in itertools.pairwise(edges):
        ids, annotators, labels = ([row[i] for row in rows[start:stop]] for i in range(3))
        columns = {"id": ids, "label": [name or None for name in labels], "annotator": annotators}
        tables.append(
            check_batch(pa.table({k: pa.array(v, pa.string()) for k, v in columns.items()}), "x", TAXONOMY)
        )
    found = Labels.of(tables)
    for name in "ab":
        last: dict[str, str] = {}
        for _, annotator, label in (row for row in rows if row[0] == name):
            kept = {k: v for k, v in last.items() if k and annotator}
            last = kept | {annotator: label}
        said = [label for label in last.values() if label]
        times = {label: said.count(label) for label in said}
        best = [label for label, n in times.items() if n == max(times.values())]
        labels = dict(zip(*found.labeled(), strict=True))
        assert labels.get(name) == (best[0] if len(best) == 1 else None)
        assert (name in found.tied()) == (len(best) > 1)
        assert (name in found.answered()) == (bool(last) and len(best) <= 1)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"label": ["two\nlines"], "status": ["unknown-class"]},
            r"row 0: the proposed class 'two\\nlines' is no name",
        ),
        ({"label": ["\x1b[2J"], "status": ["unknown-class"]}, r"row 0: the proposed class .* is no name"),
        (
            {"label": ["x" * 513], "status": ["unknown-class"]},
            r"'xxx.*\.\.\. is no name: at most 512 characters",
        ),
        ({"label": ["cat"], "annotator": ["x" * 513]}, r"row 0: the annotator .* is no name"),
        ({"label": ["x" * 10**6]}, r"row 0: label 'x{199}\.\.\. is not in the taxonomy"),
    ],
)
def test_names_that_are_none(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(LabelError, match=message) as raised:
        checked(id=["a"], **columns)
    assert len(str(raised.value)) < 500


def test_an_id_is_no_place_to_store_things() -> None:
    assert checked(id=["x" * 65_536], label=["cat"])
    with pytest.raises(LabelError, match="row 0: an id of 65537 characters"):
        checked(id=["x" * 65_537], label=["cat"])


def test_a_column_that_stands_twice_is_refused() -> None:
    table = pa.table([["a"], ["cat"], ["dog"]], ["id", "label", "label"])
    with pytest.raises(LabelError, match=r"a\.parquet: 2 columns 'label'"):
        check_batch(table, "a.parquet", TAXONOMY)


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
