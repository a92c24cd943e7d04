"""Tables and tars of a listing that can't be read in full.

A table that can't be opened has an unknown number of images, so none of them can be a row of the account. The listing
refuses the pool, or the config allows the loss and everybody is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.project import Config
from pipeline.errors import PipelineError, PoolError
from pipeline.pool.inventory.found import Lost, Surveyed
from pipeline.pool.source import PoolSource
from pipeline.workspace import keys
from pipeline.workspace.folder import Folder
from pipeline.workspace.plan import Loss

MOST_LOST = 10_000  # tables and tars that are named; all of them count
SHOWN = 3

UNREADABLE = pa.schema(
    [
        ("uri", pa.string()),
        ("reason", pa.string()),
        ("bytes", pa.int64()),
        ("listed", pa.int64()),
        ("rows", pa.int64()),
    ]
)


@dataclass
class Gathered:
    """The findings of all tasks, in their order.

    The first Parquet file without images is kept for a message.
    """

    found: dict[str, tuple[int, int]] = field(default_factory=dict)
    lost: list[Lost] = field(default_factory=list)
    loss: Loss = field(default_factory=Loss)
    left: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)

    def add(self, aside: Surveyed, source: PoolSource) -> None:
        """Take what a task found beside shards."""
        self.left += aside.left
        self.notes += aside.notes
        for each in aside.lost:
            known = replace(each, rows=_by_index(each, source))
            rows = self.loss.rows + (known.rows or 0)
            self.loss = Loss(files=self.loss.files + 1, bytes=self.loss.bytes + each.bytes, rows=rows)
            if len(self.lost) < MOST_LOST:
                self.lost.append(known)


def _by_index(lost: Lost, source: PoolSource) -> int | None:
    """Return how many images a lost tar has beside those listed.

    The Parquet file of the same name beside it tells, as img2dataset writes it. None if there is none.
    """
    stem = lost.uri.removesuffix(".tar")
    if stem == lost.uri:
        return None
    store, key = source.roots.locate(f"{stem}.parquet")
    try:
        with store.open(key) as file:
            return max(0, int(pq.ParquetFile(file).metadata.num_rows) - lost.listed)
    except (PipelineError, pa.ArrowException, OSError, ValueError):
        return None


def check_loss(gathered: Gathered, config: Config) -> None:
    """Refuse a pool with more losses than the config allows.

    Raises:
        PoolError: with their number, their size, and the first of them.
    """
    most_files = config.pool.max_unreadable_files
    loss, lost = gathered.loss, gathered.lost
    if most_files is None or loss.files <= most_files:
        return
    first = ", ".join(f"{one.uri} ({one.reason})" for one in lost[:SHOWN])
    more = f" and {loss.files - SHOWN} more" if loss.files > SHOWN else ""
    raise PoolError(
        f"pool.max_unreadable_files: {loss.told()}, and {most_files} are allowed: {first}{more}; mend them, leave them "
        f"out by pool.exclude, or allow the loss of their images by pool.max_unreadable_files: {loss.files}"
    )


def write_lost(folder: Folder, lost: Sequence[Lost]) -> None:
    """Write the losses that a config allows, each with its reason."""
    if lost:
        folder.write_table(
            keys.UNREADABLE, pa.Table.from_pylist([vars(one) for one in lost], schema=UNREADABLE)
        )
    else:  # an earlier attempt may have left some
        folder.delete(keys.UNREADABLE)
