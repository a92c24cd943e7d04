"""Small pools of every form, and what the rooms of the pipeline see in them, without an engine."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.config.sections import Pool, Storage
from pipeline.pool.inventory.found import Group, Surveyed
from pipeline.pool.pieces import Failure, Piece, Reading
from pipeline.pool.shards import pieces, survey, units
from pipeline.pool.snapshot import Snapshot, SnapshotWriter
from pipeline.pool.source import PoolSource
from pipeline.types import Shard
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder

MAX_BYTES = 1 << 20

Row = tuple[int, str, str, bytes | Failure | None]


def png(value: int, side: int = 4) -> bytes:
    """A grey square."""
    sink = io.BytesIO()
    Image.new("L", (side, side), value).save(sink, "PNG")
    return sink.getvalue()


def parquet(table: pa.Table | Mapping[str, Any], group: int = 1000, **how: Any) -> bytes:
    """A Parquet file with row groups of `group` rows."""
    sink = io.BytesIO()
    pq.write_table(
        table if isinstance(table, pa.Table) else pa.table(table), sink, row_group_size=group, **how
    )
    return sink.getvalue()


def rows(*ids: Any) -> dict[str, Any]:
    """Ids, each with its own text as its image."""
    return {"id": list(ids), "image": [f"{name}".encode() for name in ids]}


def tar(members: Mapping[str, bytes] | Iterable[tuple[str | tarfile.TarInfo, bytes]]) -> bytes:
    """A tar of files, in their order."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as file:
        for name, data in members.items() if isinstance(members, Mapping) else members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            if info.isreg():
                info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def source_of(pool: Pool, *, max_bytes: int = MAX_BYTES) -> PoolSource:
    """A pool as tests reach it."""
    return PoolSource(pool, Storage(), max_bytes)


def surveyed(pool: Pool) -> Surveyed:
    """What a survey of the whole pool finds, objects of no form included."""
    source, whole = source_of(pool), Surveyed()
    for unit in units(source):
        found = survey(unit, source)
        whole.groups += found.groups
        whole.lost += found.lost
        whole.left += found.left
        whole.notes += found.notes
        if unit.kind:
            whole.left[unit.kind] += 1
    return whole


def groups_of(pool: Pool) -> list[Group]:
    """The shards that a survey of the whole pool finds."""
    return surveyed(pool).groups


def shards_of(pool: Pool) -> list[Shard]:
    """The shards that a listing would make."""
    return [Shard(number, group.listed) for number, group in enumerate(groups_of(pool))]


def reading(pool: Pool, *, max_bytes: int = MAX_BYTES, budget: int = 64 << 20) -> Reading:
    """How a pool is read in tests."""
    return Reading(source_of(pool, max_bytes=max_bytes), budget)


def flat(found: Iterable[Piece]) -> list[Row]:
    """Pieces as rows: place, id, URI, bytes or why there are none."""
    return [
        row for piece in found for row in zip(piece.rows, piece.ids, piece.uris, piece.images, strict=True)
    ]


def read(shard: Shard, pool: Pool, wanted: Collection[int] | None = None, **how: Any) -> list[Row]:
    """The rows of a shard."""
    return flat(pieces(shard, reading(pool, **how), wanted))


def images_by_id(pool: Pool) -> dict[str, bytes]:
    """All that a pool holds; each row must be readable, and each id stand once."""
    found: dict[str, bytes] = {}
    for shard in shards_of(pool):
        for _, name, _, data in read(shard, pool):
            assert name not in found
            assert isinstance(data, bytes)
            found[name] = data
    return found


def snapshot_of(pool: Pool, workspace: Workspace, prefix: str = "") -> Snapshot:
    """The frozen listing of a pool, made here instead of on workers."""
    writer = SnapshotWriter(Folder(workspace, prefix))
    for group in groups_of(pool):
        writer.add(group.listed, group.digest)
    return writer.close()
