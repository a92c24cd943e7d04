"""The labeled rows, decoded on workers and kept in Ray's object store.

They are found in the pool by id. Only the rows that carry labels are read, and they stay where they were decoded:
training workers and embedding tasks look at the same shared blocks, and the driver holds references.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
import ray
import torch
from numpy.typing import NDArray

from pipeline.cluster.faults import working
from pipeline.cluster.layout import TASK_CPUS
from pipeline.config.project import Config
from pipeline.errors import LabelError
from pipeline.labels.forms.values import spellings
from pipeline.learn.split import held_out
from pipeline.pool import read_tasks
from pipeline.pool.listing import Listing
from pipeline.pool.reading import BROKEN, DECODED
from pipeline.pool.snapshot import Snapshot
from pipeline.types import LABELED
from pipeline.workspace import keys

IN_POOL: Final = -1  # in place of a set's number

# ----------------------------------------------------------------------------------------------- locating


def places_of(
    ids: Sequence[str], listing: Listing, config: Config, *, strict: bool
) -> dict[str, tuple[int, int]]:
    """Return (shard, row) of the labeled ids that the listing found.

    Raises:
        LabelError: with `strict`, an id is not in the pool; without, none of the ids is.
    """
    missing = sorted(set(ids) - set(listing.found))
    if missing and (strict or len(missing) == len(set(ids))):
        raise LabelError(
            f"{len(missing)} labeled ids are not in the pool {config.pool.place}, the first is {missing[0]!r}"
            f"{spelled(missing, listing)}"
        )
    return listing.found


def spelled(missing: Sequence[str], listing: Listing) -> str:
    """Say how the pool spells one of the missing ids."""
    for name in missing:
        for other in sorted(spellings(name) & listing.found.keys()):
            return f"; it has {other!a} for {name!a}, so write ids as the pool has them"
    return ""


# ------------------------------------------------------------------------------------------------ reading


@dataclass(frozen=True)
class LabeledSet:
    """References to shared blocks of decoded labeled rows.

    Workers may still be filling the blocks.
    """

    blocks: tuple[Any, ...]  # ObjectRefs of `DECODED` tables
    _broken: tuple[Any, ...]  # ObjectRefs of `BROKEN` tables
    _asked: int

    @cached_property
    def broken(self) -> pa.Table:
        """The labeled rows that could not be decoded.

        Waits for the reading to end.
        """
        with working("reading the labeled images"):
            return pa.concat_tables([BROKEN.empty_table(), *ray.get(list(self._broken))])

    @property
    def rows(self) -> int:
        """The number of decoded rows; waits for the reading to end."""
        return self._asked - int(self.broken.num_rows)


def read_labeled(labeled: pa.Table, snapshot: Snapshot, config: Config) -> LabeledSet:
    """Start to read and decode labeled rows into the object store.

    `labeled` is a `LABELED` table, with a column `set` if rows of labeled sets are in it. Only the shards that hold
    such rows are read, by one task each. Returns at once.
    """
    by_shard: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in labeled.to_pylist():
        by_shard.setdefault((row.pop("set", IN_POOL), row["shard"]), []).append(row)
    read: Any = ray.remote(num_cpus=TASK_CPUS, num_returns=2)(read_tasks.read_rows)
    places = {IN_POOL: (snapshot, config)}
    for number in sorted({number for number, _ in by_shard} - {IN_POOL}):
        listed = Snapshot.read(snapshot.folder.below(keys.set_key(number)))
        places[number] = (listed, config.model_copy(update={"pool": config.pool_of_set(number)}))
    pairs = []
    for (number, shard), rows in sorted(by_shard.items()):
        listed, read_as = places[number]
        pairs.append(read.remote(listed.take([shard]), rows, read_as))
    return LabeledSet(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs), labeled.num_rows)


@dataclass(frozen=True)
class Pixels:
    """Views of the labeled rows in shared blocks, ordered by id.

    A row is copied only when it is taken.
    """

    ids: tuple[str, ...]
    targets: NDArray[np.int64]
    held_out: NDArray[np.bool_]
    _views: tuple[NDArray[np.uint8], ...]
    _places: NDArray[np.int64]  # (n, 2): block, row

    @classmethod
    def of(cls, blocks: Sequence[pa.Table], size: int) -> Pixels:
        """Order the rows of `DECODED` tables by id.

        The order of the blocks does not matter. Images are `size` pixels wide and high.
        """
        views: list[NDArray[np.uint8]] = []
        places: list[tuple[int, int]] = []
        for block in blocks:
            for chunk in block["pixels"].chunks:
                places += [(len(views), row) for row in range(len(chunk))]
                views.append(_view(chunk, size))
        ids, targets, held = _columns(blocks)
        order = sorted(range(len(ids)), key=lambda i: ids[i])
        return cls(
            tuple(ids[i] for i in order),
            targets[order],
            held[order],
            tuple(views),
            np.asarray(places, np.int64).reshape(-1, 2)[order],
        )

    def take(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Return the (len(rows), 3, s, s) uint8 pixels of rows."""
        found = [self._views[block][row] for block, row in self._places[rows]]
        size = self._views[0].shape[-1] if self._views else 1
        return torch.from_numpy(np.stack(found) if found else np.empty((0, 3, size, size), np.uint8))

    def __len__(self) -> int:
        return len(self.ids)


def _columns(blocks: Sequence[pa.Table]) -> tuple[list[str], NDArray[np.int64], NDArray[np.bool_]]:
    table = pa.concat_tables([block.select(DECODED.names[:3]) for block in (DECODED.empty_table(), *blocks)])
    held = np.asarray(table["held_out"].to_pylist(), np.bool_)
    return table["id"].to_pylist(), table["target"].to_numpy().astype(np.int64), held


def _view(chunk: pa.LargeBinaryArray, size: int) -> NDArray[np.uint8]:
    """View the Arrow buffer as pixels (n, 3, s, s).

    Values of equal length lie there without gaps.
    """
    _, offsets, data = chunk.buffers()
    if not len(chunk):
        return np.empty((0, 3, size, size), np.uint8)
    ends = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]].reshape(-1, 3, size, size)


# ---------------------------------------------------------------------------------------------- embedding


def labeled_table(
    labels: Sequence[tuple[str, int]],
    places: Mapping[str, tuple[int, int]],
    *,
    share: float,
    seed: int,
    sets: Mapping[str, int] | None = None,
) -> pa.Table:
    """Make the `LABELED` table of a round, a frozen input.

    Args:
        labels: (id, class) of the rows that carry labels.
        places: (shard, row) by id.
        share: of each class that is held out for validation.
        seed: of the validation split.
        sets: the numbers of the labeled sets that hold some of the rows, by id; the pool holds the others.

    Returns:
        One row for each label, sorted by id.
    """
    names = [name for name, _ in sorted(labels)]
    classes = np.asarray([number for _, number in sorted(labels)], np.int32)
    columns = {
        "id": names,
        "target": classes,
        "held_out": held_out(classes, names, share, seed=seed),
        "shard": [places[name][0] for name in names],
        "row": [places[name][1] for name in names],
    }
    table = pa.table(columns, schema=LABELED)
    if not sets:
        return table
    return table.append_column("set", pa.array([sets.get(name, IN_POOL) for name in names], pa.int32()))
