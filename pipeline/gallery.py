"""Thumbnails of queried images, made on workers from the shards that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray

from pipeline.config import Config
from pipeline.pool import read_shard
from pipeline.report import thumbnail
from pipeline.types import Shard

MOST = 60  # a gallery that a person would look through


def thumbnails(
    query: Sequence[Mapping[str, Any]], shards: Sequence[Shard], config: Config
) -> dict[str, bytes]:
    """PNG thumbnails by id of the first `MOST` queried rows; an image that cannot be drawn is left out."""
    wanted: dict[str, set[str]] = {}
    for row in query[:MOST]:
        wanted.setdefault(row["uri"], set()).add(row["id"])
    make = ray.remote(num_cpus=0.25)(_make)
    jobs = [make.remote(shard, wanted[shard.uri], config) for shard in shards if shard.uri in wanted]
    return {name: png for found in ray.get(jobs) for name, png in found.items()}


def _make(shard: Shard, ids: set[str], config: Config) -> dict[str, bytes]:
    rows = read_shard(shard, config.pool, config.storage)
    found = {}
    for row, name in enumerate(rows["id"].to_pylist()):
        if name in ids:
            png = thumbnail(rows["image"][row].as_py(), max_pixels=config.scoring.max_pixels)
            if png is not None:
                found[name] = png
    return found
