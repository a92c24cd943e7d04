"""Reading and decoding, as plain callables for CPU tasks.

There is no torch here, so that workers start fast.

A batch travels as one row of an Arrow table, so that no engine can cut or join it: the pixels that the model sees
together depend on the shard alone, and so do the scores, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import ArtefactMissing
from pipeline.images.decode import Decoded, Transform, decode_batch
from pipeline.images.decode_apart import decode_apart
from pipeline.pool.pieces import Facts, Failure, Piece, Reading, places
from pipeline.pool.shards import ids_of, pieces
from pipeline.pool.snapshot import load_shards
from pipeline.types import FACTS, Shard
from pipeline.workspace.folder import Folder

DEATHS = 6  # of tasks, after which a shard is given up

# One row a batch. `bad` rows have no pixels; they are carried along to the account.
BATCH = pa.schema(
    [
        ("shard", pa.int32()),
        ("rows", pa.list_(pa.int32())),
        ("ids", pa.list_(pa.string())),
        ("uris", pa.list_(pa.string())),
        ("facts", pa.list_(FACTS.type)),
        ("pixels", pa.large_binary()),
        ("bad_rows", pa.list_(pa.int32())),
        ("bad_ids", pa.list_(pa.string())),
        ("bad_uris", pa.list_(pa.string())),
        ("bad_facts", pa.list_(FACTS.type)),
        ("bad_stages", pa.list_(pa.string())),
        ("bad_reasons", pa.list_(pa.string())),
        ("bad_attempts", pa.list_(pa.int32())),
    ]
)
# Decoded labeled rows; `pixels` is (3, s, s) uint8.
DECODED = pa.schema(
    [("id", pa.string()), ("target", pa.int32()), ("held_out", pa.bool_()), ("pixels", pa.large_binary())]
)
BROKEN = pa.schema([("id", pa.string()), ("uri", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True)
class ReadShards:
    """Read shards and decode their images, `batch_size` rows at a time.

    `refused` says why some rows of some shards are not to be scored: {shard: {row: reason}}.
    """

    folder: Folder
    reading: Reading
    transform: Transform
    batch_size: int
    refused: Mapping[int, Mapping[int, str]] = field(default_factory=dict)

    def __call__(self, shards: pa.Table, deaths: int = 0) -> Iterator[pa.Table]:
        """Turn `SHARDS` rows into one-row `BATCH` tables.

        `deaths` is how many processes have died at this work before. From the second on, images are decoded apart, so
        that the one that kills is found. From `DEATHS` on, the shards are given up.
        """
        for shard in load_shards(self.folder, shards):
            found = self._given_up(shard, deaths) if deaths >= DEATHS else pieces(shard, self.reading)
            yield from self._batches(shard, found, apart=deaths >= 2)

    def _given_up(self, shard: Shard, deaths: int) -> Iterator[Piece]:
        image_files = all(item.row_group is None and item.rows == 1 for item in shard.listed)
        # Opening a container may be what kills: it is not opened again.
        ids = ids_of(shard, self.reading.source) if image_files else places(shard.place, 0, shard.rows)
        uris = [item.uri for item in shard.listed for _ in range(item.rows)]
        failure = Failure(f"deadly: {deaths} processes died while they read this shard", deaths)
        yield Piece(list(range(len(ids))), ids, uris, [failure] * len(ids))

    def _batches(self, shard: Shard, found: Iterator[Piece], *, apart: bool) -> Iterator[pa.Table]:
        refused = self.refused.get(shard.shard, {})
        batch = _Batch(shard.shard)
        for piece in found:
            start = 0
            while start < len(piece.rows):
                stop = min(len(piece.rows), start + self.batch_size - batch.rows)
                self._add(batch, piece, slice(start, stop), refused=refused, apart=apart)
                if batch.rows == self.batch_size:
                    yield batch.table(self.transform.size)
                    batch = _Batch(shard.shard)
                start = stop
        if batch.rows:
            yield batch.table(self.transform.size)

    def _add(
        self, batch: _Batch, piece: Piece, part: slice, *, refused: Mapping[int, str], apart: bool
    ) -> None:
        """Decode some rows of a piece into a batch."""
        rows = [
            _Row(piece.rows[at], piece.ids[at], piece.uris[at], piece.facts(at))
            for at in range(part.start, min(part.stop, len(piece.rows)))
        ]
        images: list[bytes | None] = []
        whole: list[int] = []
        for i, data in enumerate(piece.images[part]):
            failure = Failure(refused[rows[i].row], stage="list") if rows[i].row in refused else data
            if isinstance(failure, Failure):
                batch.refuse(rows[i], failure)
            else:
                images.append(failure)
                whole.append(i)
        decoded = _decoded(images, self.transform, self.reading, apart=apart)
        batch.keep([rows[whole[i]] for i in decoded.good], decoded.pixels)
        for i, reason in zip(decoded.bad, decoded.reasons, strict=True):
            batch.refuse(rows[whole[i]], Failure(reason, stage="decode"))


def _decoded(
    images: Sequence[bytes | None], transform: Transform, reading: Reading, *, apart: bool
) -> Decoded:
    if apart:
        return decode_apart(images, transform, timeout_s=reading.hang_s)
    return decode_batch(images, transform)


@dataclass(frozen=True)
class _Row:
    """A row of a shard: place, id, URI and metadata."""

    row: int
    id: str
    uri: str
    facts: Facts


class _Batch:
    """A `BATCH` row in the making."""

    def __init__(self, shard: int) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in BATCH.names[1:] if name != "pixels"}
        self._shard = shard
        self._pixels: list[NDArray[np.uint8]] = []

    @property
    def rows(self) -> int:
        """The number of rows, good and bad."""
        return len(self._columns["rows"]) + len(self._columns["bad_rows"])

    def keep(self, rows: Sequence[_Row], pixels: NDArray[np.uint8]) -> None:
        """Add rows with their (n, 3, s, s) pixels."""
        for row in rows:
            for name, value in (("rows", row.row), ("ids", row.id), ("uris", row.uri), ("facts", row.facts)):
                self._columns[name].append(value)
        self._pixels.append(pixels)

    def refuse(self, row: _Row, why: Failure) -> None:
        """Add a row that has no pixels."""
        values = (row.row, row.id, row.uri, row.facts, why.stage, why.reason, why.attempts)
        kinds = ("rows", "ids", "uris", "facts", "stages", "reasons", "attempts")
        for kind, value in zip(kinds, values, strict=True):
            self._columns[f"bad_{kind}"].append(value)

    def table(self, size: int) -> pa.Table:
        """Return the one-row table; pixels are not copied into it."""
        pixels = np.concatenate(self._pixels) if self._pixels else np.empty((0, 3, size, size), np.uint8)
        ends = pa.py_buffer(np.array([0, pixels.nbytes], np.int64))
        data = pa.py_buffer(np.ascontiguousarray(pixels))
        columns: dict[str, Any] = {name: [values] for name, values in self._columns.items()}
        columns["shard"] = [self._shard]
        columns["pixels"] = pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, data])
        return pa.table({name: columns[name] for name in BATCH.names}, schema=BATCH)


def read_places(
    shard: Shard,
    rows: Sequence[Mapping[str, Any]],
    *,
    reading: Reading,
    transform: Transform,
    apart: bool = False,
) -> tuple[pa.Table, pa.Table]:
    """Read and decode rows of a shard by their places.

    Args:
        shard: where they are.
        rows: `LABELED` rows of this shard.
        reading: how it is read.
        transform: what the model sees of an image.
        apart: decode in child processes: a process has died at this before.

    Returns:
        A `DECODED` table of the good rows, and a `BROKEN` one of the others.

    Raises:
        ArtefactMissing: another id stands at a row's place than when the round was planned.
    """
    wanted = {row["row"]: row for row in rows}
    good: list[dict[str, Any]] = []
    broken: list[dict[str, Any]] = []
    for piece in pieces(shard, reading, wanted.keys()):
        images = [None if isinstance(data, Failure) else data for data in piece.images]
        decoded = _decoded(images, transform, reading, apart=apart)
        reasons = dict(zip(decoded.bad, decoded.reasons, strict=True))
        pixels = dict(zip(decoded.good, decoded.pixels, strict=True))
        for i, (place, name, uri, data) in enumerate(
            zip(piece.rows, piece.ids, piece.uris, piece.images, strict=True)
        ):
            row = wanted[place]
            if isinstance(data, Failure):
                broken.append({"id": row["id"], "uri": uri, "reason": data.reason})
            elif name != row["id"]:
                raise ArtefactMissing(f"{shard.place} has changed: row {place} was {row['id']!r}")
            elif i in reasons:
                broken.append({"id": name, "uri": uri, "reason": reasons[i]})
            else:
                kept = {column: row[column] for column in ("id", "target", "held_out")}
                good.append(kept | {"pixels": pixels[i].tobytes()})
    return pa.Table.from_pylist(good, schema=DECODED), pa.Table.from_pylist(broken, schema=BROKEN)
