"""Image objects under a prefix.

The id is the key below the pool's URI, behind that URI where there are several. Many threads fetch bytes at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa

from pipeline.errors import PipelineError
from pipeline.pool.inventory.found import Group
from pipeline.pool.inventory.names import folder_values
from pipeline.pool.pieces import Failure, Piece, Reading, failure_of, too_big
from pipeline.pool.source import PoolSource, Roots
from pipeline.types import Listed, Shard

THREADS = 16  # fetching waits for the network, not for a processor
_WINDOW = 64  # objects

_Window = tuple[Sequence[int], list[Future[bytes | Failure]]]  # rows, and their images on the way


def survey(objects: Sequence[Listed], source: PoolSource) -> Iterator[Group]:
    """Make one shard of all the objects.

    Nothing is read: the key says it all.
    """
    roots = source.roots
    yield Group(tuple(objects), pa.array([_id(roots, item.uri) for item in objects], pa.string()))


def _id(roots: Roots, uri: str) -> str:
    return roots.name(uri) or uri.rpartition("/")[2]


def ids_of(shard: Shard, source: PoolSource) -> list[str]:
    """Return the ids of a shard's rows."""
    roots = source.roots
    return [_id(roots, item.uri) for item in shard.listed]


def pieces(shard: Shard, reading: Reading, wanted: Collection[int] | None = None) -> Iterator[Piece]:
    """Read the images of a shard.

    The next ones are fetched while these are used.
    """
    roots, names = reading.source.roots, reading.source.pool.metadata
    rows = [row for row in range(len(shard.listed)) if wanted is None or row in wanted]
    with ThreadPoolExecutor(THREADS, thread_name_prefix="fetch") as threads:

        def start(window: Sequence[int]) -> list[Future[bytes | Failure]]:
            return [threads.submit(_fetch, roots, shard.listed[row], reading) for row in window]

        begun: deque[_Window] = deque()
        try:
            for window in _windows(rows, shard.listed, reading.budget // 2):
                begun.append((window, start(window)))
                if len(begun) == 2:
                    yield _piece(roots, shard, begun.popleft(), names)
            while begun:
                yield _piece(roots, shard, begun.popleft(), names)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _piece(roots: Roots, shard: Shard, window: _Window, names: Sequence[str]) -> Piece:
    """Wait for a window's images."""
    rows, fetched = window
    uris = [shard.listed[row].uri for row in rows]
    images = [future.result() for future in fetched]
    facts = [folder_values(uri, names) for uri in uris] if names else []
    return Piece(list(rows), [_id(roots, uri) for uri in uris], uris, [*images], facts)


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


def _fetch(roots: Roots, item: Listed, reading: Reading) -> bytes | Failure:
    refused = too_big(item.size, reading)
    if refused:
        return refused
    try:
        store, key = roots.locate(item.uri)
        if not key:
            return bytes(store.open("", etag=item.etag, size=item.size).read())
        return store.get(key, etag=item.etag)
    except PipelineError as error:
        return failure_of(error)
