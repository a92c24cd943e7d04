"""Reading and decoding, as plain callables for CPU tasks: no torch, so that their workers start fast.

A batch travels as one row of an Arrow table, so that no engine can cut or join it: the pixels that the model sees
together depend on the shard alone, and so do the scores, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config import Pool, Storage
from pipeline.decode import BadImage, decode
from pipeline.errors import ArtefactMissing, PoolError
from pipeline.pool import read_shard, shard_ids
from pipeline.types import Shard

# One row a batch. `bad` rows could not be decoded; they are carried along to the account.
BATCH = pa.schema(
    [
        ("shard", pa.int32()),
        ("uri", pa.string()),
        ("rows", pa.list_(pa.int32())),
        ("ids", pa.list_(pa.string())),
        ("pixels", pa.large_binary()),
        ("bad_rows", pa.list_(pa.int32())),
        ("bad_ids", pa.list_(pa.string())),
        ("bad_reasons", pa.list_(pa.string())),
    ]
)
# Decoded labeled rows; `pixels` is (3, s, s) uint8.
DECODED = pa.schema(
    [("id", pa.string()), ("target", pa.int32()), ("held_out", pa.bool_()), ("pixels", pa.large_binary())]
)
BROKEN = pa.schema([("id", pa.string()), ("uri", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True)
class ReadShards:
    """Reads shards and decodes their images, `batch_size` rows at a time."""

    pool: Pool
    storage: Storage
    image_size: int
    max_pixels: int
    batch_size: int

    def __call__(self, shards: pa.Table) -> Iterator[pa.Table]:
        """`SNAPSHOT` rows in, one-row `BATCH` tables out."""
        for record in shards.to_pylist():
            shard = Shard(**record)
            try:
                table = read_shard(shard, self.pool, self.storage)
            except (PoolError, ArtefactMissing) as error:  # no patience helps: its bytes are broken, or gone
                yield self.unreadable(shard, str(error))
                continue
            for start in range(0, table.num_rows, self.batch_size):
                yield self.batch(shard, start, table.slice(start, self.batch_size))

    def unreadable(self, shard: Shard, reason: str) -> pa.Table:
        """A shard none of whose images can be read: all of its rows go to quarantine."""
        columns = {
            "shard": [shard.shard],
            "uri": [shard.uri],
            "rows": [[]],
            "ids": [[]],
            "pixels": [b""],
            "bad_rows": [list(range(shard.rows))],
            "bad_ids": [shard_ids(shard, self.pool, self.storage)],
            "bad_reasons": [[reason] * shard.rows],
        }
        return pa.table(columns, schema=BATCH)

    def batch(self, shard: Shard, start: int, table: pa.Table) -> pa.Table:
        """Decode consecutive rows of a shard, the first of which is row `start`, into one `BATCH` row."""
        good: list[int] = []
        bad: list[int] = []
        reasons: list[str] = []
        pixels = np.empty((table.num_rows, 3, self.image_size, self.image_size), np.uint8)
        for i, data in enumerate(table["image"].to_pylist()):
            try:
                pixels[len(good)] = decode(data, self.image_size, max_pixels=self.max_pixels)
                good.append(i)
            except BadImage as error:
                bad.append(i)
                reasons.append(str(error))
        ids = table["id"].to_pylist()
        columns = {
            "shard": [shard.shard],
            "uri": [shard.uri],
            "rows": [[start + i for i in good]],
            "ids": [[ids[i] for i in good]],
            "pixels": pa.array([pixels[: len(good)].tobytes()], pa.large_binary()),
            "bad_rows": [[start + i for i in bad]],
            "bad_ids": [[ids[i] for i in bad]],
            "bad_reasons": [reasons],
        }
        return pa.table(columns, schema=BATCH)


def read_labeled(
    shard: Shard, rows: Sequence[Mapping[str, Any]], pool: Pool, storage: Storage, size: int, max_pixels: int
) -> tuple[pa.Table, pa.Table]:
    """Read and decode rows of a shard by their places.

    Args:
        shard: where they are.
        rows: `LABELED` rows of this shard.
        pool: column names.
        storage: how the shard is reached.
        size: side of the decoded pixels.
        max_pixels: refuse larger images.

    Returns:
        A `DECODED` table of the good rows, and a `BROKEN` one of the others.

    Raises:
        ArtefactMissing: another id stands at a row's place than when the round was planned.
    """
    table = read_shard(shard, pool, storage)
    good: list[dict[str, Any]] = []
    broken: list[dict[str, Any]] = []
    for row in rows:
        place = row["row"]
        if place >= table.num_rows or table["id"][place].as_py() != row["id"]:
            raise ArtefactMissing(f"{shard.uri}#{shard.row_group} has changed: row {place} was {row['id']!r}")
        try:
            pixels = decode(table["image"][place].as_py(), size, max_pixels=max_pixels).tobytes()
            good.append({name: row[name] for name in ("id", "target", "held_out")} | {"pixels": pixels})
        except BadImage as error:
            broken.append({"id": row["id"], "uri": shard.uri, "reason": str(error)})
    return pa.Table.from_pylist(good, schema=DECODED), pa.Table.from_pylist(broken, schema=BROKEN)


def find_ids(
    shards: Sequence[Shard], wanted: frozenset[str], pool: Pool, storage: Storage
) -> list[tuple[str, int, int]]:
    """(id, shard, row) of the wanted ids in these shards; images are not read."""
    matches = []
    for shard in shards:
        ids = read_shard(shard, pool, storage, images=False)["id"].to_pylist()
        matches += [(name, shard.shard, row) for row, name in enumerate(ids) if name in wanted]
    return matches
