"""Ray read tasks that know how often they have been retried.

No torch here: everybody waits for what a worker imports before its first image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.cluster.faults import deaths
from pipeline.config.project import Config
from pipeline.pool import reading
from pipeline.pool.pieces import Reading
from pipeline.pool.reading import ReadShards
from pipeline.pool.snapshot import Snapshot, load_shards
from pipeline.pool.source import PoolSource


class ReadTask:
    """Turn listed shards into batches of pixels, for Ray Data.

    Ray Data repeats for ever a task that kills its process; so the task counts the deaths.
    """

    def __init__(self, read: ReadShards, granted: int) -> None:
        self._read = read
        self._deaths = granted  # deaths to assume beside those that are known

    def __call__(self, shards: pa.Table) -> Iterator[pa.Table]:
        """Yield the `BATCH` tables of a table of shards."""
        yield from self._read(shards, deaths() + self._deaths)


def read_rows(one: Snapshot, rows: Sequence[Mapping[str, Any]], config: Config) -> tuple[pa.Table, pa.Table]:
    """Read rows of one shard by their places.

    Returns a `DECODED` table of the good ones and a `BROKEN` table of the others.
    """
    (shard,) = load_shards(one.folder, one.table)
    how = Reading(PoolSource.of(config))
    transform = config.model.transform(config.scoring.max_pixels)
    return reading.read_places(shard, rows, reading=how, transform=transform, apart=deaths() > 0)
