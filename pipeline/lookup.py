"""Images of the pool by id, where it is known in which shards they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.decode import decode_batch
from pipeline.pieces import Failure, Reading
from pipeline.pool import ids_of, pieces
from pipeline.snapshot import Snapshot, load_shards


def pixels_of(
    snapshot: Snapshot, wanted: Mapping[int, Sequence[str]], config: Config
) -> Iterator[tuple[str, NDArray[np.uint8] | str]]:
    """(id, (3, s, s) pixels or the reason why there are none) of ids in shards, a shard after another.

    Args:
        snapshot: of the pool; only the shards that are asked about are read.
        wanted: the ids in each shard.
        config: how images are read and decoded.
    """
    reading = Reading(config.pool, config.storage, config.scoring.max_bytes)
    transform = config.model.transform(config.scoring.max_pixels)
    chosen = [i for i, number in enumerate(snapshot.numbers.tolist()) if number in wanted]
    for shard in load_shards(snapshot.workspace, snapshot.prefix, snapshot.take(chosen).table):
        ids = ids_of(shard, config.pool, config.storage)
        first = {name: row for row, name in reversed(list(enumerate(ids)))}
        rows = {first[name]: name for name in wanted[shard.shard] if name in first}
        for name in wanted[shard.shard]:
            if name not in first:
                yield name, "its shard has changed since"
        for piece in pieces(shard, reading, rows.keys()):
            for row, data in zip(piece.rows, piece.images, strict=True):
                if isinstance(data, Failure):
                    yield rows[row], data.reason
                    continue
                found = decode_batch([data], transform)
                yield rows[row], found.pixels[0] if found.good else found.reasons[0]
