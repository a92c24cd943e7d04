"""Encoded images of a column, as bytes or in structs and lists."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from pipeline.pool.columns.ids import inner_type, is_bytes, is_list, is_text, only
from pipeline.pool.pieces import Failure

BYTES, PATH = "bytes", "path"  # the fields of the struct that Hugging Face's datasets write
MOST_SHOWN: Final = 100  # characters of a path


def is_image(kind: pa.DataType) -> bool:
    """Return whether values of a type can be encoded images.

    Bytes, a struct with a field `bytes`, and dictionaries and lists of one of these. A column of nulls has none.
    """
    if types.is_struct(kind):
        return kind.get_field_index(BYTES) >= 0 and is_image(kind.field(BYTES).type)
    inner = inner_type(kind)
    return is_image(inner) if inner is not kind else is_bytes(kind) or types.is_null(kind)


def has_path(kind: pa.DataType) -> bool:
    """Return whether a type is a struct with a path."""
    return types.is_struct(kind) and kind.get_field_index(PATH) >= 0 and is_text(kind.field(PATH).type)


def image_bytes(column: pa.Array) -> list[bytes | Failure | None]:
    """Return the encoded images of a column.

    Equal values of a dictionary are one object. A row that does not hold one image has a reason.
    """
    kind = column.type
    if types.is_dictionary(kind):
        values = image_bytes(column.dictionary)
        return [None if at is None else values[at] for at in column.indices.to_pylist()]
    if is_list(kind):
        sizes = pc.list_value_length(column).to_pylist()
        found = image_bytes(only(column))
        return [
            Failure(f"broken: a list of {size} images, not of one") if size not in (None, 1) else data
            for size, data in zip(sizes, found, strict=True)
        ]
    if types.is_struct(kind):
        found = image_bytes(pc.struct_field(column, BYTES))
        if not has_path(kind) or None not in found:
            return found
        paths = pc.struct_field(column, PATH).to_pylist()
        return [
            Failure(f"no bytes: only a path, {path[:MOST_SHOWN]!r}") if data is None and path else data
            for data, path in zip(found, paths, strict=True)
        ]
    if isinstance(kind, pa.BaseExtensionType):
        return image_bytes(column.storage)
    images: list[bytes | Failure | None] = column.to_pylist()
    return images
