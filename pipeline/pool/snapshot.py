"""The frozen listing of a pool.

It is stored as Parquet parts under `pool/`, and one row a shard in `shards.parquet`. A part holds whole shards, so a
worker finds a shard's objects in one part; the driver holds only the rows of `shards.parquet`, a thousandth of the
pool.
"""

from __future__ import annotations

import hashlib
import itertools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.types import SHARDS, SNAPSHOT, Listed, Shard
from pipeline.workspace import keys
from pipeline.workspace.folder import Folder

PART_ROWS = 65_536
_GROUP_ROWS = 4096  # of a part: what a worker reads to find one shard


@dataclass(frozen=True)
class Snapshot:
    """A frozen listing; `table` holds `SHARDS` rows, all of them or some."""

    folder: Folder
    table: pa.Table

    @classmethod
    def read(cls, folder: Folder) -> Snapshot:
        """Read the listing in a folder."""
        return cls(folder, folder.read_table(keys.SHARDS))

    @property
    def numbers(self) -> NDArray[np.int32]:
        """The shards' numbers."""
        found: NDArray[np.int32] = self.table["shard"].to_numpy()
        return found

    @property
    def rows(self) -> int:
        """The number of listed images."""
        return int(self.table["rows"].to_numpy().sum())

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def take(self, places: Sequence[int] | NDArray[Any]) -> Snapshot:
        """Return some of the shards, by their places in `table`."""
        return Snapshot(self.folder, self.table.take(pa.array(places, pa.int64())))

    def digest(self) -> str:
        """Return the SHA-256 of the listing.

        It covers each part of the listing, and the shards' ids.
        """
        parts = sorted(set(self.table["part"].to_pylist()))
        names = [*map(keys.listing_part_key, parts), keys.SHARDS]
        return hashlib.sha256("".join(self.folder.digest(name) for name in names).encode()).hexdigest()


def load_shards(folder: Folder, table: pa.Table) -> Iterator[Shard]:
    """Load the shards of `SHARDS` rows, with the objects they list.

    Of each part, only the row groups that hold them are read.
    """
    rows = zip(table["part"].to_pylist(), table["shard"].to_pylist(), strict=True)
    for part, run in itertools.groupby(rows, key=operator.itemgetter(0)):
        numbers = [number for _, number in run]
        listed: dict[int, list[Listed]] = {number: [] for number in numbers}
        for row in _entries(folder, keys.listing_part_key(part), numbers).to_pylist():
            listed[row.pop("shard")].append(Listed(**row))
        for number in numbers:
            yield Shard(number, tuple(listed[number]))


def load_shard(folder: Folder, *, part: int, number: int) -> Shard:
    """Load one shard with the objects it lists."""
    (shard,) = load_shards(folder, pa.table({"part": [part], "shard": [number]}))
    return shard


def _entries(folder: Folder, name: str, numbers: Sequence[int]) -> pa.Table:
    """Read the `SNAPSHOT` rows of some shards of a part.

    The row groups' statistics say where they are.
    """
    low, high = min(numbers), max(numbers)
    with folder.undamaged(name), folder.open(name) as file:
        parquet = pq.ParquetFile(file)
        meta = parquet.metadata
        spans = [meta.row_group(i).column(0).statistics for i in range(meta.num_row_groups)]
        groups = [i for i, span in enumerate(spans) if span.min <= high and span.max >= low]
        table = parquet.read_row_groups(groups, use_threads=False)
    return table.filter(pc.is_in(table["shard"], value_set=pa.array(numbers, pa.int32())))


class SnapshotWriter:
    """Write a listing as it streams in.

    Memory: one part, and a row a shard.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._pending: list[dict[str, Any]] = []
        self._part = 0
        self._shards: dict[str, list[Any]] = {name: [] for name in SHARDS.names}

    def add(self, listed: Sequence[Listed], ids: str) -> int:
        """Append a shard and return its number."""
        number = len(self._shards["shard"])
        if self._pending and len(self._pending) + len(listed) > PART_ROWS:
            self._flush()
        self._pending += [{"shard": number, **vars(item)} for item in listed]
        row = (number, self._part, sum(item.rows for item in listed), ids)
        for name, value in zip(SHARDS.names, row, strict=True):
            self._shards[name].append(value)
        return number

    def close(self) -> Snapshot:
        """Write what is left, and the table of shards last."""
        self._flush()
        for name in self._folder.names(keys.POOL):  # of an attempt that listed more
            if name >= keys.listing_part_key(self._part):
                self._folder.delete(name)
        table = pa.table(self._shards, schema=SHARDS)
        self._folder.write_table(keys.SHARDS, table)
        return Snapshot(self._folder, table)

    def _flush(self) -> None:
        if self._pending:
            table = pa.Table.from_pylist(self._pending, schema=SNAPSHOT)
            name = keys.listing_part_key(self._part)
            self._folder.write_table(name, table, row_group_size=_GROUP_ROWS)
            self._part += 1
            self._pending = []


def listed_objects(folder: Folder) -> Iterator[tuple[str, str]]:
    """List (uri, etag) of a listing's objects, in its order.

    One part is in memory at a time.
    """
    last = None
    for table in folder.tables(keys.POOL, ["uri", "etag"]):
        for uri, etag in zip(table["uri"].to_pylist(), table["etag"].to_pylist(), strict=True):
            if uri != last:
                yield uri, etag
            last = uri


@dataclass
class Changes:
    """Differences between a listing's objects and those of an earlier one.

    Both are in the order of their keys.
    """

    earlier: Iterator[tuple[str, str]]
    new: int = 0
    changed: int = 0
    vanished: int = 0

    def __post_init__(self) -> None:
        self._next = next(self.earlier, None)
        self._last: str | None = None

    def see(self, uri: str, etag: str) -> None:
        """Compare the next object of the later listing.

        It may be the last one again: a Parquet file has many shards.
        """
        if uri == self._last:
            return
        self._last = uri
        key = uri.encode()
        while self._next is not None and self._next[0].encode() < key:
            self.vanished += 1
            self._next = next(self.earlier, None)
        if self._next is not None and self._next[0] == uri:
            self.changed += self._next[1] != etag
            self._next = next(self.earlier, None)
        else:
            self.new += 1

    def end(self) -> None:
        """Count the rest of the earlier listing as vanished."""
        while self._next is not None:
            self.vanished += 1
            self._next = next(self.earlier, None)
