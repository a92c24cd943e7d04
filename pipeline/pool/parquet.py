"""Parquet files with one row an image.

A shard is a row group, and the id is a column.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ArtefactMissing, ObjectChanged, PipelineError, PoolError
from pipeline.pool.columns import Columns, as_bytes, as_text, columns_of, select
from pipeline.pool.pieces import (
    Failure,
    Found,
    Piece,
    Reading,
    failure_of,
    key_below,
    named,
    open_listed,
    places,
    shown,
    too_big,
)
from pipeline.pool.source import PoolSource
from pipeline.types import Listed, Shard

_READ_AHEAD = 4 << 20  # bytes of a column chunk at a time: a row group may be larger than memory
_MOST_ROWS = 1024
_MOST_FOOTERS = 8  # kept: row groups are read in their order, so the last one is the one that is wanted again
# A damaged footer holds damaged texts too.
_BROKEN: Final = (pa.ArrowException, OSError, ValueError, OverflowError)
_GONE: Final = (ArtefactMissing, ObjectChanged)  # a pool may be written to while it is listed


def survey(objects: Sequence[Listed], source: PoolSource) -> Iterator[Found]:
    """Make a shard of each row group that has rows.

    A file that can't be read becomes a shard of one row, whose id is the file's key.
    """
    for item in objects:
        try:
            with open_listed(item, source) as file:
                parquet = _opened(file, item)
                counts = _counts(parquet, item)
                if not any(counts):  # an empty part may have columns without a type
                    continue
                columns = columns_of(parquet.schema_arrow, source.pool, item.uri)
                for group, rows in enumerate(counts):
                    if rows:
                        found = replace(item, row_group=group, rows=rows)
                        yield Found((found,), _ids(parquet, found, columns))
        except _BROKEN as error:
            yield Found((item,), pa.array([_whole(item, source)], pa.string()), shown(error))
        except _GONE:
            yield Found((item,), pa.array([_whole(item, source)], pa.string()))


def has_rows(item: Listed, source: PoolSource) -> bool:
    """Return whether a file has rows, by its footer alone.

    True if the file can't be read.

    Raises:
        PoolError: a column is missing, or holds another type.
    """
    try:
        with open_listed(item, source) as file:
            parquet = pq.ParquetFile(file)
            if not parquet.metadata.num_rows:
                return False
            columns_of(parquet.schema_arrow, source.pool, item.uri)
            return True
    except (*_BROKEN, *_GONE):
        return True


def groups(source: PoolSource) -> Iterator[Listed]:
    """List the row groups of a source that must be intact.

    For files that must all be readable Parquet, such as a test set. Only footers are read.

    Raises:
        PoolError: a file that is not Parquet, a missing or mistyped column.
        StorageError: the URI may not be read.
    """
    store = source.store
    for entry in store.list():
        if entry.key and not entry.key.endswith(".parquet"):
            continue
        item = Listed(store.url(entry.key), None, 1, entry.size, entry.etag)
        try:
            with store.open(entry.key, size=entry.size) as file:
                parquet = pq.ParquetFile(file)
                rows = _counts(parquet, item)
                if any(rows):
                    columns_of(parquet.schema_arrow, source.pool, item.uri)
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


def _ids(parquet: pq.ParquetFile, item: Listed, columns: Columns) -> pa.StringArray:
    place = f"{item.uri}#{item.row_group}"
    if columns.id is not None:
        try:
            table = parquet.read_row_group(item.row_group, columns=[columns.id], use_threads=False)
            ids = named(as_text(select(table, columns.id)), place)
            if len(ids) == item.rows:
                return ids
        except _BROKEN:
            pass
    return pa.array(places(place, 0, item.rows), pa.string())


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
    source, pool = reading.source, reading.source.pool
    with open_listed(item, source) as file:
        parquet = _opened(file, item, buffer_size=_READ_AHEAD)
        columns = columns_of(parquet.schema_arrow, pool, item.uri)
        counts = _counts(parquet, item)
        if item.row_group is None:  # broken when it was listed, so it would have raised by now
            return
        if item.rows not in counts[item.row_group : item.row_group + 1]:
            return
        start = 0
        for batch in parquet.iter_batches(
            _chunk(parquet, item.row_group, reading.budget),
            row_groups=[item.row_group],
            columns=[columns.image] if columns.id is None else [columns.id, columns.image],
            use_threads=False,
        ):
            place, count = f"{item.uri}#{item.row_group}", batch.num_rows
            if columns.id is None:
                ids = places(place, start, start + count)
            else:
                ids = named(as_text(select(batch, columns.id)), place, start).to_pylist()
            images = [_bounded(data, reading) for data in as_bytes(select(batch, columns.image))]
            yield Piece(list(range(start, start + count)), ids, [item.uri] * count, images)
            start += count


def _bounded(data: bytes | None, reading: Reading) -> bytes | Failure | None:
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
    if item.row_group is None:
        return [_whole(item, source)]
    try:
        with open_listed(item, source) as file:
            parquet = _opened(file, item)
            if item.rows in _counts(parquet, item)[item.row_group : item.row_group + 1]:
                columns = columns_of(parquet.schema_arrow, source.pool, item.uri)
                found: list[str] = _ids(parquet, item, columns).to_pylist()
                return found
    except (PipelineError, *_BROKEN):
        pass
    return places(f"{item.uri}#{item.row_group}", 0, item.rows)


def _whole(item: Listed, source: PoolSource) -> str:
    """Return the id of a file that can't be read: its key."""
    return key_below(source.store, item.uri) or item.uri
