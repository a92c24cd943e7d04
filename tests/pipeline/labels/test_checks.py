"""Checks of one answer: what is read, and what is refused with its row."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from pipeline.errors import LabelError
from pipeline.labels.checks import check_batch

TAXONOMY = ("cat", "dog", "3")


def checked(**columns: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = check_batch(pa.table(columns), "a.parquet", TAXONOMY).to_pylist()
    return found


def test_only_id_and_label_must_be_there() -> None:
    assert checked(label=["cat", None, "3"], id=["a", "b", "c"], extra=[1, 2, 3]) == [
        {"id": "a", "label": "cat", "status": "labeled", "annotator": "", "at": None},
        {"id": "c", "label": "3", "status": "labeled", "annotator": "", "at": None},
    ]


def test_a_row_without_label_and_status_is_still_open() -> None:
    assert checked(id=["a", "b"], label=[None, ""], status=[None, " "]) == []
    (row,) = checked(id=["a", "b"], label=[None, None], status=["skipped", None])
    assert (row["id"], row["status"]) == ("a", "skipped")


@pytest.mark.parametrize("status", ["unknown-class", "out-of-world", "skipped"])
def test_a_class_beside_a_status_that_takes_none_is_refused_with_its_row(status: str) -> None:
    table = pa.table({"id": ["a", "b"], "label": ["cat", "dog"], "status": ["labeled", status]})
    with pytest.raises(LabelError, match=rf"x\.parquet, row 1: status '{status}' and label 'dog' at once"):
        check_batch(table, "x.parquet", TAXONOMY, offered=TAXONOMY)


def test_a_proposed_class_that_has_joined_since_is_no_contradiction() -> None:
    table = pa.table({"id": ["a"], "label": ["owl"], "status": ["unknown-class"]})
    (row,) = check_batch(table, "x.parquet", (*TAXONOMY, "owl"), offered=TAXONOMY).to_pylist()
    assert (row["label"], row["status"]) == ("owl", "labeled")


def test_a_class_that_is_unknown_says_how_one_is_proposed() -> None:
    with pytest.raises(
        LabelError, match=r"'airplane' is not in the taxonomy; .*status unknown-class beside its name"
    ):
        checked(id=["a"], label=["airplane"])


ACCENTED = "cafe\N{COMBINING ACUTE ACCENT}"


@pytest.mark.parametrize(
    ("column", "label"),
    [
        (pa.array([3.0]), "3"),
        (pa.array(["3.0"]), "3"),
        (pa.array([Decimal("3.00")]), "3"),
        (pa.array([b"3"]), "3"),
        (pa.array(["3"]).dictionary_encode(), "3"),
        (pa.array(["3 "]), "3"),
        (pa.array([ACCENTED]), "caf\N{LATIN SMALL LETTER E WITH ACUTE}"),
        (pa.array([True]), "true"),
        (pa.array(["TRUE"]), "true"),
    ],
)
def test_a_class_is_known_as_spreadsheets_and_data_frames_write_it(column: pa.Array, label: str) -> None:
    taxonomy = (*TAXONOMY, "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "true")
    (row,) = check_batch(pa.table({"id": ["a"], "label": column}), "x", taxonomy).to_pylist()
    assert (row["label"], row["status"]) == (label, "labeled")


def test_values_that_are_none_are_refused_with_file_and_row() -> None:
    no_text = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    late = pa.array([9 * 10**15], pa.timestamp("ms", tz="UTC"))
    beyond = pa.array([2**62], pa.timestamp("ms", tz="UTC"))
    nowhere = pa.array([0], pa.timestamp("us", tz="Nowhere/X"))
    for columns, message in (
        ({"id": no_text, "label": ["cat"]}, "row 0: id: no value of type string"),
        ({"id": ["a"], "label": [b"\xff"]}, "row 0: label: bytes that are no UTF-8"),
        ({"id": ["a"], "label": ["cat"], "at": late}, "row 0: at: no value of type timestamp"),
        ({"id": ["a"], "label": ["cat"], "at": beyond}, "row 0: at: no value of type timestamp"),
        ({"id": ["a"], "label": ["cat"], "at": nowhere}, "row 0: at: no value of type timestamp"),
        ({"id": ["a"], "label": ["cat"], "at": ["0001-01-01T00:00:00+14:00"]}, "row 0: .* years 1 to 9999"),
    ):
        with pytest.raises(LabelError, match=rf"x\.parquet.*{message}"):
            check_batch(pa.table(columns), "x.parquet", TAXONOMY)


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
        ({"id": ["a"], "label": [3.5]}, r"row 0: label '3\.5' is not in the taxonomy; did you mean 3\?"),
        ({"id": ["a"], "label": [None], "status": ["skiped"]}, r"row 0: status 'skiped'; did you mean skipped\?"),
        ({"id": ["a"], "label": [None], "status": [7]}, r"row 0: status '7'; known: "),
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


# --------------------------------------------------------------------------------------- several annotators


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
