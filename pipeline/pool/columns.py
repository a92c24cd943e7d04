"""The columns of ids and images in Parquet files.

Images are bytes, or structs of Hugging Face's with a field `bytes`. Ids are text or whole numbers, in any type that
holds such. Where the default id column is missing, ids are the `path` of the struct, or else the rows' places.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa

from pipeline.config.sections import Pool
from pipeline.errors import NoImageColumn, PoolError, nearest

DEFAULT_ID: Final = "id"
_BYTES, _PATH = "bytes", "path"


@dataclass(frozen=True)
class Columns:
    """The columns to read, by the paths that Parquet knows them by.

    `id` is None where rows are named by their places.
    """

    image: str
    id: str | None


def columns_of(schema: pa.Schema, pool: Pool, uri: str) -> Columns:
    """Find the columns of ids and images in a file.

    Raises:
        NoImageColumn: the image column is missing.
        PoolError: the id column is missing, a column appears twice, or holds another type.
    """
    image = _image(schema, pool, uri)
    if pool.id_column in schema.names:
        _once(schema, "pool.id_column", pool.id_column, uri)
        kind = schema.field(pool.id_column).type
        if not _names_rows(kind):
            raise PoolError(
                f"pool.id_column: {pool.id_column!r} in {uri} is {kind}, expected text or integers"
            )
        return Columns(image, pool.id_column)
    hint = nearest(pool.id_column, schema.names)
    if pool.id_column != DEFAULT_ID or hint.startswith("did you mean"):
        raise PoolError(f"pool.id_column: {uri} has no column {pool.id_column!r}; {hint}")
    holder = image.rpartition(".")[0]
    has_path = holder and schema.field(holder).type.get_field_index(_PATH) >= 0
    return Columns(image, f"{holder}.{_PATH}" if has_path else None)


def _image(schema: pa.Schema, pool: Pool, uri: str) -> str:
    name, _, inner = pool.image_column, "", ""
    if name not in schema.names and "." in name:
        name, _, inner = name.rpartition(".")
    if name not in schema.names:
        hint = nearest(pool.image_column, schema.names)
        raise NoImageColumn(f"pool.image_column: {uri} has no column {pool.image_column!r}; {hint}")
    _once(schema, "pool.image_column", name, uri)
    kind = schema.field(name).type
    if pa.types.is_struct(kind):
        field = kind.get_field_index(inner or _BYTES)
        if field >= 0 and _is_bytes(kind.field(field).type):
            return f"{name}.{inner or _BYTES}"
    elif not inner and _is_bytes(_plain(kind)):
        return name
    raise PoolError(f"pool.image_column: {pool.image_column!r} in {uri} is {kind}, expected encoded bytes")


def _once(schema: pa.Schema, key: str, name: str, uri: str) -> None:
    if schema.names.count(name) > 1:
        raise PoolError(f"{key}: {uri} has {schema.names.count(name)} columns {name!r}")


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column's values, whatever they are packed in."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _plain(kind.value_type)
    return kind


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def _names_rows(kind: pa.DataType) -> bool:
    types, plain = pa.types, _plain(kind)
    text = types.is_string(plain) or types.is_large_string(plain) or types.is_string_view(plain)
    return bool(text or types.is_integer(plain) or types.is_decimal(plain) or _is_bytes(plain))


def select(table: pa.Table | pa.RecordBatch, path: str) -> pa.Array:
    """Return the column, or field of a struct, at a path."""
    name, _, field = path.rpartition(".") if path not in table.schema.names else ("", "", path)
    column = table.column(name or field)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if not name:
        return column
    if column.null_count == 0:
        return column.field(field)
    rows = [None if row is None else row[field] for row in column.to_pylist()]
    return pa.array(rows, column.type.field(field).type)


def as_bytes(column: pa.Array) -> list[bytes | None]:
    """Return the images of a column; of a list, its only element."""
    return [_only(value) for value in column.to_pylist()]


def as_text(column: pa.Array) -> pa.Array:
    """Return ids as text.

    Whole numbers are as they are written, UUIDs in their usual form.

    Raises:
        ArrowInvalid: an id is no UTF-8, or no whole number.
    """
    kind = column.type
    plain = _plain(kind)
    if plain == kind and not (pa.types.is_decimal(kind) or _is_bytes(kind)):
        return column.cast(pa.string())
    return pa.array([_text(_only(value)) for value in column.to_pylist()], pa.string())


def _only(value: Any) -> Any:
    if isinstance(value, list):
        return value[0] if len(value) == 1 else None
    return value


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            if len(value) == 16:
                return str(uuid.UUID(bytes=value))
            raise pa.ArrowInvalid("an id is no UTF-8") from None
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, Decimal):
        if value != value.to_integral_value():
            raise pa.ArrowInvalid(f"an id is no whole number: {value}")
        return str(int(value))
    return None if value is None else str(value)
