"""Values as text: expected by hand, and by Python's own types."""

from __future__ import annotations

import decimal
import uuid
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pool.columns.ids import as_text, is_fact, is_id, only

UUIDS = [uuid.UUID(int=5), uuid.UUID("12345678-1234-5678-1234-567812345678")]
AS_UUIDS = pa.ExtensionArray.from_storage(
    pa.uuid(), pa.array([u.bytes for u in UUIDS] + [None], pa.binary(16))
)
IDS: list[tuple[pa.Array, list[str | None]]] = [
    (pa.array([7, -1, None], pa.int32()), ["7", "-1", None]),
    (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
    (pa.array(["a", None], pa.large_string()), ["a", None]),
    (pa.array(["a", None], pa.string_view()), ["a", None]),
    (pa.array([b"a\xc3\xa9", None], pa.binary()), ["aé", None]),
    (pa.array([b"a", None], pa.large_binary()), ["a", None]),
    (pa.array([b"a", None], pa.binary_view()), ["a", None]),
    (pa.array([b"\x00\xff", None], pa.binary(2)), ["00ff", None]),
    (pa.array(["b", None, "a", "b"]).dictionary_encode(), ["b", None, "a", "b"]),
    (pa.array([5, None, 5]).dictionary_encode(), ["5", None, "5"]),
    (pa.array([decimal.Decimal(10**37), None], pa.decimal128(38, 0)), ["1" + "0" * 37, None]),
    (pa.array([decimal.Decimal(-3)], pa.decimal256(70, 0)), ["-3"]),
    (AS_UUIDS, [*map(str, UUIDS), None]),
    (pa.array([["a"], [], None, ["b", "c"], ["d"]]), ["a", None, None, None, "d"]),
    (pa.array([["a"], None, ["d"]], pa.large_list(pa.string())), ["a", None, "d"]),
    (pa.array([["a"], None, ["d"]], pa.list_(pa.string(), 1)), ["a", None, "d"]),
    (pa.array([[7], [8]]), ["7", "8"]),
    (pa.nulls(2), [None, None]),
]
FACTS: list[tuple[pa.Array, list[str | None]]] = [
    (pa.array([1.5, -0.25, None]), ["1.5", "-0.25", None]),
    (pa.array([True, False, None]), ["true", "false", None]),
    (pa.array([decimal.Decimal("1.50"), None], pa.decimal128(5, 2)), ["1.50", None]),
    (pa.array([date(2026, 1, 31)]), ["2026-01-31"]),
    (pa.array([datetime(2026, 1, 31, 12, 5)], pa.timestamp("s")), ["2026-01-31 12:05:00"]),
]


@pytest.mark.parametrize(("column", "want"), IDS + FACTS, ids=lambda value: str(getattr(value, "type", "")))
@pytest.mark.parametrize("chunks", [1, 2])
def test_values_are_written_as_people_know_them(
    column: pa.Array, want: list[str | None], chunks: int
) -> None:
    given = column if chunks == 1 else pa.chunked_array([column.slice(0, 1), column.slice(1)])
    assert as_text(given).to_pylist() == want
    assert as_text(given).type == pa.string()
    assert as_text(column.slice(1)).to_pylist() == want[1:]


def test_ids_are_facts_and_not_the_other_way_round() -> None:
    assert all(is_id(column.type) and is_fact(column.type) for column, _ in IDS)
    assert all(is_fact(column.type) and not is_id(column.type) for column, _ in FACTS)
    for kind in (pa.struct([("a", pa.string())]), pa.map_(pa.string(), pa.string()), pa.list_(pa.struct([]))):
        assert not is_id(kind) and not is_fact(kind)


def test_a_moment_is_told_in_utc_whatever_its_zone() -> None:
    moment = datetime(2026, 1, 31, 12, 0, tzinfo=timezone(timedelta(hours=2)))
    for zone in ("UTC", "Europe/Helsinki", "+02:00"):
        assert as_text(pa.array([moment], pa.timestamp("us", zone))).to_pylist() == [
            "2026-01-31 10:00:00.000000Z"
        ]


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(pa.ArrowInvalid, match="UTF"):
        as_text(pa.array([b"a", b"\xff"]))


@given(st.lists(st.none() | st.lists(st.none() | st.integers(0, 9), max_size=3), max_size=12))
def test_the_only_value_of_a_list(lists: list[Any]) -> None:
    want = [one[0] if one is not None and len(one) == 1 else None for one in lists]
    assert only(pa.array(lists, pa.list_(pa.int64()))).to_pylist() == want
