"""Images that people are asked about, found by id and object in the pool as it is now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pipeline.config import Config
from pipeline.errors import StorageError, StoreUnavailable
from pipeline.pieces import Failure, Reading
from pipeline.pool import Unit, form_of, pieces, survey
from pipeline.storage import open_store
from pipeline.types import Listed, Shard

T = TypeVar("T")
_THREADS = 8


def look_at(
    wanted: Mapping[str, Sequence[str]], config: Config, look: Callable[[bytes], T]
) -> Iterator[tuple[str, T | Failure]]:
    """What `look` makes of images, several at once; only what it returns is held.

    Args:
        wanted: ids by the URI of the object that holds them.
        config: how the pool is read.
        look: takes an image's encoded bytes.

    Returns:
        (id, what was made of it or why it can't be read) for each id, an object after another.

    Raises:
        StorageError, StoreUnavailable: storage refuses, or does not answer.
    """
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="look") as threads:
        jobs = [threads.submit(_of_object, uri, ids, config, look) for uri, ids in wanted.items()]
        try:
            for job in jobs:
                yield from job.result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _of_object(
    uri: str, ids: Sequence[str], config: Config, look: Callable[[bytes], T]
) -> list[tuple[str, T | Failure]]:
    missing = dict.fromkeys(ids)
    found: list[tuple[str, T | Failure]] = []
    pool, storage = config.pool, config.storage
    entry = next(open_store(uri, storage).list(), None)
    if entry is not None and not entry.key:
        item = Listed(uri, None, 1, entry.size, entry.etag)
        form = form_of(uri)
        unit = Unit("parquet" if form == "other" else form, (item,))
        reading = Reading(pool, storage, config.scoring.max_bytes)
        for group in survey(unit, pool, storage):
            rows = {}
            for row, name in enumerate(group.ids.to_pylist()):
                if name in missing:
                    del missing[name]  # of an id that stands twice, the first one counts
                    rows[row] = name
            for piece in pieces(Shard(0, group.listed), reading, rows) if rows else ():
                for row, data in zip(piece.rows, piece.images, strict=True):
                    found.append((rows[row], _seen(data, uri, look)))
            if not missing:
                break
    return found + [(name, Failure("no longer in the pool")) for name in missing]


def _seen(data: bytes | Failure | None, uri: str, look: Callable[[bytes], T]) -> T | Failure:
    if data is None:
        return Failure("no image in its row")
    if not isinstance(data, Failure):
        return look(data)
    # Storage that is away, or credentials that have run out, say nothing about the image.
    if data.reason.startswith("refused"):
        raise StorageError(f"{uri}: {data.reason}")
    if data.reason.startswith("storage did not answer"):
        error = StoreUnavailable(f"{uri}: {data.reason}")
        error.uri, error.attempts = uri, data.attempts
        raise error
    return data
