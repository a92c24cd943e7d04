"""Values of a column as text: ids of many types, and metadata."""

from __future__ import annotations

import uuid
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types


def is_id(kind: pa.DataType) -> bool:
    """Return whether values of a type can be ids.

    Text, whole numbers, UUIDs, bytes, and dictionaries and lists of one of these. A column of nulls has none.
    """
    inner = inner_type(kind)
    if inner is not kind:
        return is_id(inner)
    return bool(
        is_text(kind)
        or is_bytes(kind)
        or types.is_integer(kind)
        or types.is_null(kind)
        or isinstance(kind, pa.UuidType)
        or (types.is_decimal(kind) and kind.scale == 0)
    )


def is_fact(kind: pa.DataType) -> bool:
    """Return whether values can be metadata: ids, numbers or times."""
    inner = inner_type(kind)
    if inner is not kind:
        return is_fact(inner)
    numbers = types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind)
    times = types.is_date(kind) or types.is_time(kind) or types.is_timestamp(kind)
    return bool(is_id(kind) or numbers or times)


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is text."""
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Return whether a type is bytes."""
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def is_list(kind: pa.DataType) -> bool:
    """Return whether a type is a list."""
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def inner_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that a dictionary, a list or an extension holds.

    Of another type, itself.
    """
    if types.is_dictionary(kind) or is_list(kind):
        return kind.value_type
    if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.UuidType):
        return kind.storage_type
    return kind


def as_text(values: pa.Array | pa.ChunkedArray) -> pa.StringArray:
    """Return ids or metadata as text.

    Bytes have to be UTF-8; those of a fixed size are written in hexadecimal. A list that does not have one value is
    null.

    Raises:
        ArrowInvalid: bytes that are no UTF-8.
    """
    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    kind = column.type
    if types.is_dictionary(kind):
        return as_text(column.dictionary_decode())
    if is_list(kind):
        return as_text(only(column))
    if isinstance(kind, pa.UuidType):
        return _each(column.storage, lambda data: str(uuid.UUID(bytes=data)))
    if isinstance(kind, pa.BaseExtensionType):
        return as_text(column.storage)
    if types.is_fixed_size_binary(kind):
        return _each(column, bytes.hex)
    if types.is_timestamp(kind) and kind.tz is not None:
        column = column.cast(pa.timestamp(kind.unit, "UTC"))
    text = column.cast(pa.string())
    text.validate(full=True)
    return text


def only(lists: pa.Array) -> pa.Array:
    """Return the value of each list of one, else null."""
    alone = pc.equal(pc.fill_null(pc.list_value_length(lists), 0), 1)
    places = pc.subtract(pc.cumulative_sum(alone.cast(pa.int64())), 1)
    return lists.filter(alone).flatten().take(pc.if_else(alone, places, None))


def _each(column: pa.Array, of: Any) -> pa.StringArray:
    return pa.array([None if data is None else of(data) for data in column.to_pylist()], pa.string())
