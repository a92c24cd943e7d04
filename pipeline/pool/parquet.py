"""Parquet files with one row an image.

A shard is a row group. The id is a column; without one it is the path in the images' struct, or object and row.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.sections import Pool
from pipeline.errors import ArtefactMissing, ObjectChanged, PipelineError, PoolError, nearest
from pipeline.pool.columns.chosen import Columns
from pipeline.pool.inventory.found import Group, Left, Lost, Note
from pipeline.pool.inventory.names import no_data
from pipeline.pool.pieces import (
    Failure,
    Piece,
    Reading,
    failure_of,
    named,
    open_listed,
    places,
    shown,
    too_big,
)
from pipeline.pool.source import PoolSource
from pipeline.types import Listed, Shard

_READ_AHEAD = 4 << 20  # bytes of a column chunk at a time: a row group may be larger than memory
# Rows at a time. A dictionary counts in a group's size once, however many rows hold its values, and writers let it grow
# to 1 MiB: rows that all hold one image of that size come to 64 MiB.
_MOST_ROWS = 64
_MOST_FOOTERS = 8  # kept: row groups are read in their order, so the last one is the one that is wanted again
# A damaged footer holds damaged texts too.
_BROKEN: Final = (pa.ArrowException, OSError, ValueError, OverflowError)
_GONE: Final = (ArtefactMissing, ObjectChanged)  # a pool may be written to while it is listed
MOVED: Final = "tables or tars that changed or vanished while they were listed"


def survey(objects: Sequence[Listed], source: PoolSource) -> Iterator[Group | Lost | Left | Note]:
    """Make a shard of each row group that has rows.

    A file that can't be read is lost; one that could not hold images is left out.

    Raises:
        PoolError: a column is missing, or holds another type.
    """
    for item in objects:
        try:
            with open_listed(item, source) as file:
                parquet = _opened(file, item)
                counts = _counts(parquet, item)
                columns = Columns.of(parquet.schema_arrow, source.pool, item.uri) if any(counts) else None
                if columns is None:
                    yield Left(_without(source.pool) if any(counts) else "Parquet files without rows")
                    continue
                if columns.naming:
                    yield Note(f"Parquet files name their rows by {columns.naming}")
                for group, rows in enumerate(counts):
                    if rows:
                        found = replace(item, row_group=group, rows=rows)
                        ids = _ids(parquet, found, columns, source)
                        yield Group((found,), pa.array(ids, pa.string()))
        except _GONE:
            yield Left(MOVED)
        except _BROKEN as error:
            yield Lost(item.uri, failure_of(error).reason, item.size)


def _without(pool: Pool) -> str:
    return f"Parquet files without a column {pool.image_column!r} or any other of images"


def has_rows(item: Listed, source: PoolSource) -> bool | None:
    """Return whether a file has rows of images, by its footer alone.

    True if the file can't be read, None if it has rows but no column that could hold images.

    Raises:
        PoolError: a column is missing, or holds another type.
    """
    try:
        with open_listed(item, source) as file:
            parquet = pq.ParquetFile(file)
            if not parquet.metadata.num_rows:
                return False
            return None if Columns.of(parquet.schema_arrow, source.pool, item.uri) is None else True
    except (*_BROKEN, *_GONE):
        return True


def missing_images(item: Listed, source: PoolSource) -> PoolError:
    """Make the error for a pool whose Parquet files hold no images."""
    name = source.pool.image_column
    with open_listed(item, source) as file:
        hint = nearest(name, pq.ParquetFile(file).schema_arrow.names)
    return PoolError(f"pool.image_column: {item.uri} has no column {name!r}; {hint}")


def groups(source: PoolSource) -> Iterator[Listed]:
    """List the row groups of a source that must be intact.

    For files that must all be readable Parquet, such as a test set. Only footers are read.

    Raises:
        PoolError: a file that is not Parquet, a missing or mistyped column.
        StorageError: the URI may not be read.
    """
    store = source.store
    for entry in store.list():
        if entry.key and (not entry.key.endswith(".parquet") or no_data(entry.key)):
            continue
        item = Listed(store.url(entry.key), None, 1, entry.size, entry.etag)
        try:
            with store.open(entry.key, size=entry.size) as file:
                parquet = pq.ParquetFile(file)
                rows = _counts(parquet, item)
                if any(rows) and Columns.of(parquet.schema_arrow, source.pool, item.uri) is None:
                    raise missing_images(item, source)
        except _BROKEN as error:
            raise PoolError(f"{item.uri}: not a Parquet file: {shown(error)}") from None
        yield from (replace(item, row_group=i, rows=count) for i, count in enumerate(rows) if count)


_footers: dict[tuple[str, str, int], pq.FileMetaData] = {}  # of this process, by version, oldest first
_keeping = threading.Lock()


def _opened(file: pa.NativeFile, item: Listed, **how: Any) -> pq.ParquetFile:
    """Open a Parquet file, and read its footer once.

    It is read once however many of the file's row groups this process reads.
    """
    version = (item.uri, item.etag, item.size)
    parquet = pq.ParquetFile(file, metadata=_footers.get(version), **how)
    with _keeping:
        _footers.pop(version, None)
        _footers[version] = parquet.metadata
        while len(_footers) > _MOST_FOOTERS:
            del _footers[next(iter(_footers))]
    return parquet


def _counts(parquet: pq.ParquetFile, item: Listed) -> list[int]:
    """Return the number of rows of each row group.

    Raises:
        ArrowInvalid: a number that only a damaged footer would hold.
    """
    found = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
    if any(not 0 <= rows <= item.size for rows in found):
        raise pa.ArrowInvalid(f"row groups of {max(found, key=abs)} rows in {item.size} bytes")
    return found


def _columns(parquet: pq.ParquetFile, item: Listed, source: PoolSource) -> Columns:
    columns = Columns.of(parquet.schema_arrow, source.pool, item.uri)
    if columns is None:
        raise pa.ArrowInvalid(f"no column {source.pool.image_column!r}")
    return columns


def _ids(parquet: pq.ParquetFile, item: Listed, columns: Columns, source: PoolSource) -> list[str]:
    """Read the ids of a row group.

    Where they can't be read, the rows' places."""
    wanted = columns.ids_only
    try:
        names: Sequence[str | None] = [None] * item.rows
        if wanted:
            table = parquet.read_row_group(item.row_group, columns=wanted, use_threads=False)
            names = columns.names(table)
        if len(names) == item.rows:
            return _Naming.of(parquet, item, columns, source).names(names, 0)
    except _BROKEN:
        pass
    return places(f"{item.uri}#{item.row_group}", 0, item.rows)


class _Naming:
    """Names of a row group's rows.

    A row without an id has its place in the group; where no column has ids, object and row of the file.
    """

    def __init__(self, place: str, separator: str, first: int) -> None:
        self._place = place
        self._separator = separator
        self._first = first

    @classmethod
    def of(cls, parquet: pq.ParquetFile, item: Listed, columns: Columns, source: PoolSource) -> _Naming:
        """Return the naming of a row group that is listed."""
        assert item.row_group is not None
        if columns.ids is not None:
            return cls(f"{item.uri}#{item.row_group}", ":", 0)
        name = source.roots.name(item.uri) or item.uri.rpartition("/")[2]
        return cls(name, "#", sum(_counts(parquet, item)[: item.row_group]))

    def names(self, names: Sequence[str | None], start: int) -> list[str]:
        """Return names of rows from `start` on, without gaps."""
        return named(names, self._place, self._first + start, self._separator)


def pieces(shard: Shard, reading: Reading, wanted: Collection[int] | None = None) -> Iterator[Piece]:
    """Read the rows of a row group.

    From where it turns out to be broken, every row comes with the reason.
    """
    (item,) = shard.listed
    done = 0
    try:
        for piece in _read(item, reading):
            done += len(piece.ids)
            yield piece.only(wanted)
    except (PipelineError, *_BROKEN) as error:
        failure = failure_of(error)
    else:
        if done == item.rows:
            return
        failure = Failure("changed since the pool was listed")
    ids = ids_of(shard, reading.source)[done:]
    rest = list(range(done, item.rows))
    yield Piece(rest, ids, [item.uri] * len(ids), [failure] * len(ids)).only(wanted)


def _read(item: Listed, reading: Reading) -> Iterator[Piece]:
    source = reading.source
    with open_listed(item, source) as file:
        parquet = _opened(file, item, buffer_size=_READ_AHEAD)
        counts = _counts(parquet, item)
        columns = _columns(parquet, item, source)
        if item.row_group is None:  # broken when an earlier release listed it, so it would have raised by now
            return
        if item.rows not in counts[item.row_group : item.row_group + 1]:
            return
        naming = _Naming.of(parquet, item, columns, source)
        start = 0
        for batch in parquet.iter_batches(
            _chunk(parquet, item.row_group, reading.budget),
            row_groups=[item.row_group],
            columns=columns.all,
            use_threads=False,
        ):
            ids = naming.names(columns.names(batch), start)
            images = [_bounded(data, reading) for data in columns.image_bytes(batch)]
            rows = list(range(start, start + len(ids)))
            yield Piece(rows, ids, [item.uri] * len(ids), images, columns.metadata(batch))
            start += len(ids)


def _bounded(data: bytes | Failure | None, reading: Reading) -> bytes | Failure | None:
    if isinstance(data, Failure):
        return data
    return (data and too_big(len(data), reading)) or data


def _chunk(parquet: pq.ParquetFile, group: int, budget: int) -> int:
    """Return how many rows fit into the budget, by mean size."""
    # The size of the group, not of its columns: pyarrow aborts the process where one of these is damaged.
    meta = parquet.metadata.row_group(group)
    return max(1, min(_MOST_ROWS, int(budget * meta.num_rows // max(meta.total_byte_size, 1))))


def ids_of(shard: Shard, source: PoolSource) -> list[str]:
    """Return the ids of a row group.

    Where they can't be read, the rows' places.
    """
    (item,) = shard.listed
    if item.row_group is None:  # a file that an earlier release listed as one row
        return [source.roots.name(item.uri) or item.uri]
    try:
        with open_listed(item, source) as file:
            parquet = _opened(file, item)
            if item.rows in _counts(parquet, item)[item.row_group : item.row_group + 1]:
                return _ids(parquet, item, _columns(parquet, item, source), source)
    except (PipelineError, *_BROKEN):
        pass
    return places(f"{item.uri}#{item.row_group}", 0, item.rows)
