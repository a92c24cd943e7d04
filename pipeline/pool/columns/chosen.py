"""Columns of one Parquet file, found by the config's names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from pipeline.config.sections import Pool
from pipeline.errors import PoolError, nearest
from pipeline.pool.columns.ids import as_text, is_fact, is_id
from pipeline.pool.columns.images import PATH, has_path, image_bytes, is_image
from pipeline.pool.inventory.names import folder_values
from pipeline.pool.pieces import Failure

_DEFAULT_ID: Final = Pool.model_fields["id_column"].default
_LIKE_AN_ID: Final = re.compile(r"(^|[\W_])(ids?|uuid|guid|key)($|[\W_])")


@dataclass(frozen=True)
class Column:
    """A column, or a field of a struct in one."""

    name: str
    fields: tuple[str, ...]
    type: pa.DataType

    @classmethod
    def find(cls, schema: pa.Schema, name: str) -> Column | None:
        """Find a column by its name, or by `column.field`.

        A column of the whole name comes first.
        """
        pieces = name.split(".")
        for taken in range(len(pieces), 0, -1):
            top, fields = ".".join(pieces[:taken]), pieces[taken:]
            if top not in schema.names:
                continue
            kind = schema.field(schema.names.index(top)).type
            for field in fields:
                if not types.is_struct(kind) or kind.get_field_index(field) < 0:
                    break
                kind = kind.field(field).type
            else:
                return cls(top, tuple(fields), kind)
        return None

    @property
    def path(self) -> str:
        """The name by which Parquet readers select it."""
        return ".".join((self.name, *self.fields))

    def of(self, table: pa.Table | pa.RecordBatch) -> pa.Array:
        """Return the column of a table that has it."""
        column = table.column(self.name)
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        for field in self.fields:
            column = pc.struct_field(column, field)
        return column


@dataclass(frozen=True)
class Columns:
    """The columns of a file that name, hold and describe images.

    ids       of the rows; None where they are named by path, or by object and row
    images    encoded
    path      of the images' struct, which names rows without ids
    facts     metadata that are columns
    told      metadata that folders of the URI tell, in the order of the config, with None for columns
    """

    ids: Column | None
    images: Column
    path: Column | None
    facts: tuple[Column | None, ...]
    told: tuple[str | None, ...]

    @classmethod
    def of(cls, schema: pa.Schema, pool: Pool, uri: str) -> Columns | None:
        """Find the columns of a file.

        Returns None for a file that belongs beside images: no column of it could hold any.

        Raises:
            PoolError: a column is missing, appears twice, or holds another type.
        """
        others = (field for field in schema if field.name != pool.id_column and not types.is_null(field.type))
        if Column.find(schema, pool.image_column) is None and not any(is_image(f.type) for f in others):
            return None
        images = _images(schema, pool, uri)
        ids = _ids(schema, pool, uri)
        named_by_path = ids is None and pool.id_column is not None and has_path(images.type)
        path = Column.find(schema, f"{images.path}.{PATH}") if named_by_path else None
        facts = tuple(_fact(schema, name, uri) for name in pool.metadata)
        return cls(ids, images, path, facts, folder_values(uri, pool.metadata))

    @property
    def naming(self) -> str | None:
        """The rule that names the rows, where no column of ids does."""
        if self.ids is not None:
            return None
        return f"the paths of {self.images.path!r}, else object and row" if self.path else "object and row"

    @property
    def ids_only(self) -> list[str]:
        """The names to read where only ids are wanted."""
        named = self.ids or self.path
        return [named.path] if named else []

    @property
    def all(self) -> list[str]:
        """The names of all columns to read, each once."""
        wanted = (self.ids, self.path, *self.facts, self.images)
        return list(dict.fromkeys(column.path for column in wanted if column is not None))

    def names(self, table: pa.Table | pa.RecordBatch) -> list[str | None]:
        """Return what the columns of a table say its rows are called."""
        named = self.ids or self.path
        names: list[str | None] = as_text(named.of(table)).to_pylist() if named else [None] * table.num_rows
        return names

    def image_bytes(self, table: pa.Table | pa.RecordBatch) -> list[bytes | Failure | None]:
        """Return the encoded images of a table."""
        return image_bytes(self.images.of(table))

    def metadata(self, table: pa.Table | pa.RecordBatch) -> list[tuple[str | None, ...]]:
        """Return the metadata of rows, in the config's order."""
        if not self.facts:
            return []

        def values(place: int, column: Column | None) -> list[str | None]:
            if column is None:
                return [self.told[place]] * table.num_rows
            found: list[str | None] = as_text(column.of(table)).to_pylist()
            return found

        return list(zip(*(values(i, column) for i, column in enumerate(self.facts)), strict=True))


def _found(schema: pa.Schema, key: str, name: str, uri: str) -> Column | None:
    column = Column.find(schema, name)
    if column is not None and schema.names.count(column.name) > 1:
        raise PoolError(f"{key}: {uri} has {schema.names.count(column.name)} columns {column.name!r}")
    return column


def _images(schema: pa.Schema, pool: Pool, uri: str) -> Column:
    key, name = "pool.image_column", pool.image_column
    column = _found(schema, key, name, uri)
    if column is None:
        raise PoolError(f"{key}: {uri} has no column {name!r}; {nearest(name, schema.names)}")
    if not is_image(column.type):
        raise PoolError(f"{key}: {name!r} in {uri} is {column.type}, expected encoded bytes")
    return column


def _ids(schema: pa.Schema, pool: Pool, uri: str) -> Column | None:
    """Find the ids; None if the rows are named otherwise.

    Only the default name may be missing, and only where no other column looks like ids.
    """
    key, name = "pool.id_column", pool.id_column
    if name is None:
        return None
    column = _found(schema, key, name, uri)
    if column is None:
        like = next(_like_ids(schema), None)
        if name == _DEFAULT_ID and like is None:
            return None
        hint = nearest(name, schema.names) if like is None else f"did you mean {like}?"
        raise PoolError(f"{key}: {uri} has no column {name!r}; {hint} (null makes ids of object and row)")
    if not is_id(column.type):
        raise PoolError(f"{key}: {name!r} in {uri} is {column.type}, expected text or integers")
    return column


def _like_ids(schema: pa.Schema) -> Iterator[str]:
    """List columns that seem to hold ids, by their names."""
    names = [field.name for field in schema if is_id(field.type)]
    yield from difflib.get_close_matches(_DEFAULT_ID, names, cutoff=0.75)
    yield from (name for name in names if _LIKE_AN_ID.search(name.casefold()))


def _fact(schema: pa.Schema, name: str, uri: str) -> Column | None:
    """Find a column of metadata; None if a folder tells it."""
    key = "pool.metadata"
    column = _found(schema, key, name, uri)
    if column is None:
        if f"/{name}=" not in uri:
            raise PoolError(
                f"{key}: {uri} has no column {name!r} and lies in no folder '{name}=...'; {nearest(name, schema.names)}"
            )
        return None
    if not is_fact(column.type):
        raise PoolError(f"{key}: {name!r} in {uri} is {column.type}, expected text, numbers or times")
    return column
