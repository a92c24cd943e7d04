"""The pool: what is listed, and how a listed piece is read. A shard is one Parquet row group."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.config import Pool, Storage
from pipeline.errors import ArtefactMissing, PoolError, nearest
from pipeline.storage import Store, open_store, reading
from pipeline.types import SNAPSHOT, Shard


def list_shards(pool: Pool, storage: Storage) -> Iterator[Shard]:
    """List the pool, in the order of its keys; only the footers of the files are read.

    Raises:
        PoolError: nothing there, a file that is not Parquet, a missing or mistyped column.
        StorageError: the URI may not be read.
    """
    store = open_store(pool.uri, storage)
    number = 0
    for entry in store.list():
        if not (entry.key.endswith(".parquet") or entry.key == ""):
            continue
        uri = store.url(entry.key)
        try:
            with reading(uri), store.open(entry.key) as file:
                parquet = pq.ParquetFile(file)
                check_columns(parquet.schema_arrow, pool, uri)
                groups = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
        except (pa.ArrowException, OSError) as error:
            raise PoolError(f"{uri}: not a Parquet file: {_line(error)}") from None
        for group, rows in enumerate(groups):
            if rows:
                yield Shard(number, uri, group, rows, entry.size, entry.etag)
                number += 1
    if number == 0:
        raise PoolError(f"pool.uri: {pool.uri} {_why_empty(store)}")


def _why_empty(store: Store) -> str:
    """What is wrong with a pool in which nothing was listed, and what may have been meant."""
    keys = [entry.key for entry in itertools.islice(store.list(), 1000)]
    if any(key.endswith(".parquet") for key in keys):
        return "holds Parquet files without rows"
    if keys:
        return f"holds no file that ends in .parquet, but {keys[0]!r} and others"
    local = Path(store.uri)
    if "://" in store.uri or local.exists():
        return "is empty" if local.exists() else "does not exist or is empty"
    siblings = [path.name for path in local.parent.iterdir()] if local.parent.is_dir() else []
    return "does not exist" + (f"; {nearest(local.name, siblings)}" if siblings else "")


def check_columns(schema: pa.Schema, pool: Pool, uri: str) -> None:
    """Refuse a file that lacks the configured columns or holds other types in them."""
    for key, name in (("pool.id_column", pool.id_column), ("pool.image_column", pool.image_column)):
        if name not in schema.names:
            raise PoolError(f"{key}: {uri} has no column {name!r}; {nearest(name, schema.names)}")
        if schema.names.count(name) > 1:
            raise PoolError(f"{key}: {uri} has {schema.names.count(name)} columns {name!r}")
    types = pa.types
    kind = schema.field(pool.image_column).type
    if not (types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)):
        raise PoolError(
            f"pool.image_column: {pool.image_column!r} in {uri} is {kind}, expected encoded bytes"
        )
    kind = schema.field(pool.id_column).type
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if not (text or types.is_integer(kind)):
        raise PoolError(f"pool.id_column: {pool.id_column!r} in {uri} is {kind}, expected text or integers")


def snapshot_table(shards: Sequence[Shard]) -> pa.Table:
    """The listing as the table that a round freezes."""
    columns = {name: [getattr(shard, name) for shard in shards] for name in SNAPSHOT.names}
    return pa.table(columns, schema=SNAPSHOT)


def shards_of(table: pa.Table) -> list[Shard]:
    """The listing back from its table."""
    return [Shard(**row) for row in table.to_pylist()]


def read_shard(shard: Shard, pool: Pool, storage: Storage, *, images: bool = True) -> pa.Table:
    """The rows of a shard as columns `id` (string) and, unless only ids are wanted, `image` (bytes).

    A row without an id gets its place as one, so that it can be accounted for.

    Raises:
        ArtefactMissing: the object has vanished or changed since it was listed.
        PoolError: its bytes are broken.
    """
    columns = [pool.id_column, *([pool.image_column] if images else [])]
    place = f"{shard.uri}#{shard.row_group}"
    try:
        with reading(shard.uri), open_store(shard.uri, storage).open("") as file:
            parquet = pq.ParquetFile(file)
            if _rows(parquet, shard.row_group) != shard.rows:
                raise ArtefactMissing(
                    f"{place}: its {shard.rows} rows have changed since the pool was listed"
                )
            table = parquet.read_row_group(shard.row_group, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise PoolError(f"{place}: cannot be read: {_line(error)}") from None
    ids = table[pool.id_column].cast(pa.string())
    if ids.null_count or pc.any(pc.equal(ids, "")).as_py():
        ids = pa.array([name or f"{place}:{i}" for i, name in enumerate(ids.to_pylist())], pa.string())
    found = {"id": ids}
    if images:
        found["image"] = table[pool.image_column]
    return pa.table(found)


def shard_ids(shard: Shard, pool: Pool, storage: Storage) -> list[str]:
    """The ids of a shard; where even these cannot be read any more, each row's place stands for its id."""
    try:
        names: list[str] = read_shard(shard, pool, storage, images=False)["id"].to_pylist()
    except (PoolError, ArtefactMissing):
        return [f"{shard.uri}#{shard.row_group}:{row}" for row in range(shard.rows)]
    return names


def _rows(parquet: pq.ParquetFile, group: int) -> int | None:
    return parquet.metadata.row_group(group).num_rows if group < parquet.num_row_groups else None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
