"""Reading as Ray's workers do it: what knows how many processes have died at the very same task before.

No torch here: what a worker imports before its first image is what everybody waits for.
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
    """Turns listed shards into batches of pixels, for Ray Data, which repeats a task that kills for ever."""

    def __init__(self, read: ReadShards, granted: int) -> None:
        self._read = read
        self._deaths = granted  # deaths that are taken for granted

    def __call__(self, shards: pa.Table) -> Iterator[pa.Table]:
        """`BATCH` tables of a table of shards."""
        yield from self._read(shards, deaths() + self._deaths)


def read_rows(one: Snapshot, rows: Sequence[Mapping[str, Any]], config: Config) -> tuple[pa.Table, pa.Table]:
    """Rows of one shard by their places: a `DECODED` table of the good ones and a `BROKEN` one of the others."""
    (shard,) = load_shards(one.folder, one.table)
    how = Reading(PoolSource.of(config))
    transform = config.model.transform(config.scoring.max_pixels)
    return reading.read_places(shard, rows, reading=how, transform=transform, apart=deaths() > 0)
