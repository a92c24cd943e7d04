"""Thumbnails of queried images, made on workers from the shards that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray

from pipeline.config import Config
from pipeline.pieces import Failure, Reading
from pipeline.pool import ids_of, pieces
from pipeline.report import thumbnail
from pipeline.snapshot import Snapshot, load_shards, part_key

MOST = 60  # a gallery that a person would look through


def thumbnails(query: Sequence[Mapping[str, Any]], snapshot: Snapshot, config: Config) -> dict[str, bytes]:
    """PNG thumbnails by id of the first `MOST` queried rows; an image that cannot be drawn is left out."""
    ids = frozenset(row["id"] for row in query[:MOST])
    uris = pa.array(sorted({row["uri"] for row in query[:MOST]}), pa.string())
    find = ray.remote(num_cpus=0.25)(_shards_with)
    make = ray.remote(num_cpus=0.25)(_make)
    parts = sorted(set(snapshot.table["part"].to_pylist()))
    numbers = [n for found in ray.get([find.remote(snapshot, part, uris) for part in parts]) for n in found]
    jobs = [make.remote(snapshot.take([number]), ids, config) for number in numbers]
    return {name: png for found in ray.get(jobs) for name, png in found.items()}


def _shards_with(snapshot: Snapshot, part: int, uris: pa.StringArray) -> list[int]:
    table = snapshot.workspace.read_table(part_key(snapshot.prefix, part), ["shard", "uri"])
    found: list[int] = pc.unique(table.filter(pc.is_in(table["uri"], value_set=uris))["shard"]).to_pylist()
    return found


def _make(one: Snapshot, ids: frozenset[str], config: Config) -> dict[str, bytes]:
    (shard,) = load_shards(one.workspace, one.prefix, one.table)
    names = ids_of(shard, config.pool, config.storage)
    wanted = {row for row, name in enumerate(names) if name in ids}
    reading = Reading(config.pool, config.storage, config.scoring.max_bytes)
    made = {}
    for piece in pieces(shard, reading, wanted) if wanted else ():
        for name, data in zip(piece.ids, piece.images, strict=True):
            if data is not None and not isinstance(data, Failure):
                png = thumbnail(data, max_pixels=config.scoring.max_pixels)
                if png is not None:
                    made[name] = png
    return made
