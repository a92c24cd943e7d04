"""Image objects under a prefix.

The id is the key below the pool's URI. Many threads fetch bytes at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa

from pipeline.errors import PipelineError
from pipeline.pool.pieces import Failure, Found, Piece, Reading, failure_of, key_below, too_big
from pipeline.pool.source import PoolSource
from pipeline.store.base import Store
from pipeline.types import Listed, Shard

THREADS = 16  # fetching waits for the network, not for a processor
_WINDOW = 64  # objects

_Window = tuple[Sequence[int], list[Future[bytes | Failure]]]  # rows, and their images on the way


def survey(objects: Sequence[Listed], source: PoolSource) -> Iterator[Found]:
    """Make one shard of all the objects.

    Nothing is read: the key says it all.
    """
    store = source.store
    yield Found(tuple(objects), pa.array([_id(store, item.uri) for item in objects], pa.string()))


def _id(store: Store, uri: str) -> str:
    return key_below(store, uri) or uri.rpartition("/")[2]


def ids_of(shard: Shard, source: PoolSource) -> list[str]:
    """Return the ids of a shard's rows."""
    store = source.store
    return [_id(store, item.uri) for item in shard.listed]


def pieces(shard: Shard, reading: Reading, wanted: Collection[int] | None = None) -> Iterator[Piece]:
    """Read the images of a shard.

    The next ones are fetched while these are used.
    """
    store = reading.source.store
    rows = [row for row in range(len(shard.listed)) if wanted is None or row in wanted]
    with ThreadPoolExecutor(THREADS, thread_name_prefix="fetch") as threads:

        def start(window: Sequence[int]) -> list[Future[bytes | Failure]]:
            return [threads.submit(_fetch, store, shard.listed[row], reading) for row in window]

        begun: deque[_Window] = deque()
        try:
            for window in _windows(rows, shard.listed, reading.budget // 2):
                begun.append((window, start(window)))
                if len(begun) == 2:
                    yield _piece(store, shard, begun.popleft())
            while begun:
                yield _piece(store, shard, begun.popleft())
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _piece(store: Store, shard: Shard, window: _Window) -> Piece:
    """Wait for a window's images."""
    rows, fetched = window
    uris = [shard.listed[row].uri for row in rows]
    return Piece(list(rows), [_id(store, uri) for uri in uris], uris, [future.result() for future in fetched])


def _windows(rows: Sequence[int], listed: Sequence[Listed], budget: int) -> Iterator[Sequence[int]]:
    """Divide rows into runs that fit into the budget together.

    Each has at least one row.
    """
    first = size = 0
    for i, row in enumerate(rows):
        if i > first and (size + listed[row].size > budget or i - first == _WINDOW):
            yield rows[first:i]
            first, size = i, 0
        size += listed[row].size
    if rows:
        yield rows[first:]


def _fetch(store: Store, item: Listed, reading: Reading) -> bytes | Failure:
    refused = too_big(item.size, reading)
    if refused:
        return refused
    try:
        key = key_below(store, item.uri)
        if not key:
            return bytes(store.open("", etag=item.etag, size=item.size).read())
        return store.get(key, etag=item.etag)
    except PipelineError as error:
        return failure_of(error)
