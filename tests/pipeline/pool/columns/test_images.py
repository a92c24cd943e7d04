"""Encoded images of a column, whatever holds them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from pipeline.pool.columns.images import has_path, image_bytes, is_image
from pipeline.pool.pieces import Failure

DATA = [b"1", None, b"", b"\xff\xd8"]
HUGGING_FACE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_bytes_are_the_images(kind: pa.DataType) -> None:
    column = pa.array(DATA, kind)
    assert is_image(kind)
    assert image_bytes(column) == DATA


def test_a_dictionary_holds_each_image_once() -> None:
    """A thousand rows of one image of a megabyte are one megabyte."""
    rows = pa.array([0] * 1000 + [None], pa.int32())
    column = pa.DictionaryArray.from_arrays(rows, pa.array([b"x" * (1 << 20)]))
    found = image_bytes(column)
    assert len({id(data) for data in found[:1000]}) == 1
    assert (found[0], found[1000]) == (b"x" * (1 << 20), None)


def test_a_struct_of_bytes_and_path() -> None:
    rows: list[Any] = [
        {"bytes": b"1", "path": "a.png"},
        {"bytes": None, "path": "b.png"},
        {"bytes": None, "path": None},
        None,
        {"bytes": b"5", "path": None},
    ]
    column = pa.array(rows, HUGGING_FACE)
    assert is_image(column.type) and has_path(column.type)
    assert image_bytes(column) == [b"1", Failure("no bytes: only a path, 'b.png'"), None, None, b"5"]
    assert image_bytes(column.slice(3)) == [None, b"5"]
    alone = pa.array([{"bytes": b"1"}])
    assert image_bytes(alone) == [b"1"] and not has_path(alone.type)


def test_a_struct_that_is_null_hides_what_lies_under_it() -> None:
    inner = pa.array([b"1", b"2"])
    column = pa.StructArray.from_arrays([inner], ["bytes"], mask=pa.array([False, True]))
    assert image_bytes(column) == [b"1", None]


def test_a_list_of_one_image() -> None:
    column = pa.array([[b"1"], [b"2", b"3"], None, [], [None], [b"6"]])
    assert is_image(column.type)
    assert image_bytes(column) == [
        b"1",
        Failure("broken: a list of 2 images, not of one"),
        None,
        Failure("broken: a list of 0 images, not of one"),
        None,
        b"6",
    ]
    structs = pa.array([[{"bytes": b"1", "path": None}], None], pa.list_(HUGGING_FACE))
    assert image_bytes(structs) == [b"1", None]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.int32(), pa.struct([("path", pa.string())]), pa.list_(pa.float32())]
)
def test_what_holds_no_images(kind: pa.DataType) -> None:
    assert not is_image(kind)
