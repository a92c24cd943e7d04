"""Images of the pool by id, in shards that are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.config.project import Config
from pipeline.errors import StorageError, StoreUnavailable
from pipeline.images.decode import decode_batch
from pipeline.pool.parquet import has_rows, missing_images
from pipeline.pool.pieces import Failure, Reading
from pipeline.pool.shards import Unit, form_of, ids_of, pieces, survey
from pipeline.pool.snapshot import Snapshot, load_shards
from pipeline.pool.source import PoolSource
from pipeline.store.opening import open_store
from pipeline.types import Listed, Shard


def pixels_of(
    snapshot: Snapshot, wanted: Mapping[int, Sequence[str]], config: Config
) -> Iterator[tuple[str, NDArray[np.uint8] | str]]:
    """Read images by id, a shard after another.

    Yields (id, (3, s, s) pixels or the reason why there are none).

    Args:
        snapshot: of the pool; only the shards that are asked about are read.
        wanted: the ids in each shard.
        config: how images are read and decoded.
    """
    source = PoolSource.of(config)
    transform = config.model.transform(config.scoring.max_pixels)
    chosen = [i for i, number in enumerate(snapshot.numbers.tolist()) if number in wanted]
    for shard in load_shards(snapshot.folder, snapshot.take(chosen).table):
        ids = ids_of(shard, source)
        first = {name: row for row, name in reversed(list(enumerate(ids)))}
        rows = {first[name]: name for name in wanted[shard.shard] if name in first}
        for name in wanted[shard.shard]:
            if name not in first:
                yield name, "its shard has changed since"
        for piece in pieces(shard, Reading(source), rows.keys()):
            for row, data in zip(piece.rows, piece.images, strict=True):
                if isinstance(data, Failure):
                    yield rows[row], data.reason
                    continue
                found = decode_batch([data], transform)
                yield rows[row], found.pixels[0] if found.good else found.reasons[0]


T = TypeVar("T")
_THREADS = 8


def look_at(
    wanted: Mapping[str, Sequence[str]], config: Config, look: Callable[[bytes], T]
) -> Iterator[tuple[str, T | Failure]]:
    """Apply `look` to images, several at once.

    Only what it returns is held.

    Args:
        wanted: ids by the URI of the object that holds them.
        config: how the pool is read.
        look: takes an image's encoded bytes.

    Returns:
        (id, what `look` returned or why the image can't be read) for each id, an object after another.

    Raises:
        StorageError, StoreUnavailable: storage refuses, or does not answer.
    """
    source = PoolSource.of(config)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="look") as threads:
        jobs = [threads.submit(_of_object, uri, ids, source, look=look) for uri, ids in wanted.items()]
        try:
            for job in jobs:
                yield from job.result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _of_object(
    uri: str, ids: Sequence[str], source: PoolSource, *, look: Callable[[bytes], T]
) -> list[tuple[str, T | Failure]]:
    missing = dict.fromkeys(ids)
    found: list[tuple[str, T | Failure]] = []
    entry = next(open_store(uri, source.storage).list(), None)
    if entry is not None and not entry.key:
        item = Listed(uri, None, 1, entry.size, entry.etag)
        form = form_of(uri)
        unit = Unit("parquet" if form == "other" else form, (item,))
        surveyed = survey(unit, source)
        if not surveyed.groups and unit.form == "parquet" and has_rows(item, source) is None:
            raise missing_images(item, source)
        for group in surveyed.groups:
            rows = {}
            for row, name in enumerate(group.ids.to_pylist()):
                if name in missing:
                    del missing[name]  # of an id that appears twice, the first one counts
                    rows[row] = name
            for piece in pieces(Shard(0, group.listed), Reading(source), rows) if rows else ():
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
