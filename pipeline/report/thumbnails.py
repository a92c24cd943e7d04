"""Thumbnails of queried images, made on workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray

from pipeline.cluster.faults import working
from pipeline.config.project import Config
from pipeline.images.thumbnail import thumbnail
from pipeline.pool.pieces import Failure, Reading
from pipeline.pool.shards import ids_of, pieces
from pipeline.pool.snapshot import Snapshot, load_shards
from pipeline.pool.source import PoolSource
from pipeline.score.files import shards_of

MOST = 60  # as many as a person would look through


@working("drawing thumbnails")
def thumbnails(query: Sequence[Mapping[str, Any]], snapshot: Snapshot, config: Config) -> dict[str, bytes]:
    """Make PNG thumbnails, by id, of the first `MOST` queried rows.

    An image that cannot be drawn is left out.

    Where an image lies is read from the score files: of the pool itself, only the shards that hold queried images.
    """
    asked = {row["id"]: row["uri"] for row in query[:MOST]}
    held = shards_of(snapshot.folder, asked)
    make = ray.remote(num_cpus=1)(_make)
    places = [(place, number) for place, number in enumerate(snapshot.numbers.tolist()) if number in held]
    jobs = [make.remote(snapshot.take([place]), held[number], config) for place, number in places]
    return {name: png for made in ray.get(jobs) for name, png in made.items()}


def _make(one: Snapshot, ids: frozenset[str], config: Config) -> dict[str, bytes]:
    (shard,) = load_shards(one.folder, one.table)
    source = PoolSource.of(config)
    names = ids_of(shard, source)
    wanted = {row for row, name in enumerate(names) if name in ids}
    made = {}
    for piece in pieces(shard, Reading(source), wanted) if wanted else ():
        for name, data in zip(piece.ids, piece.images, strict=True):
            if data is not None and not isinstance(data, Failure):
                png = thumbnail(data, max_pixels=config.scoring.max_pixels)
                if png is not None:
                    made[name] = png
    return made
