"""The listing of a pool into a snapshot.

The driver streams keys, and workers look into the objects. Memory in the driver: the objects in flight, and a row a
shard. Only ids that are labeled or appear twice come to the driver.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from pipeline.cluster.faults import working
from pipeline.cluster.layout import TASK_CPUS, Cluster
from pipeline.config.project import Config
from pipeline.errors import PoolError
from pipeline.pool.inventory.found import most
from pipeline.pool.inventory.look import Found, survey_units
from pipeline.pool.inventory.losses import Gathered, check_loss, write_lost
from pipeline.pool.parquet import has_rows
from pipeline.pool.shards import Unit, ids_of, no_images, units
from pipeline.pool.snapshot import Changes, Snapshot, SnapshotWriter, listed_objects, load_shards
from pipeline.pool.source import PoolSource
from pipeline.types import Listed
from pipeline.workspace import keys
from pipeline.workspace.folder import Folder
from pipeline.workspace.plan import Loss

TASK_OBJECTS = 1024  # image objects a task looks at together, or
TASK_FILES = 8  # files
BUCKET_ROWS = 16_000_000  # ids compared in one task: 128 MB of hashes
MOST_REPEATS = 1_000_000

MOST_KINDS = 30  # kinds of things left out that are told apart

DUPLICATES = pa.schema(
    [("shard", pa.int32()), ("row", pa.int32()), ("id", pa.string()), ("first", pa.string())]
)


@dataclass(frozen=True)
class Listing:
    """A snapshot, and what its listing found beside it."""

    snapshot: Snapshot
    found: dict[str, tuple[int, int]]  # (shard, row) of each wanted id that is there
    duplicates: pa.Table  # `DUPLICATES` rows: ids that appear earlier in the pool
    other: int  # objects of no known form
    changes: dict[str, int] | None  # new, changed and vanished objects since the earlier listing
    left: Mapping[str, int] = field(default_factory=dict)  # what rules leave out, by kind
    notes: Mapping[str, int] = field(
        default_factory=dict
    )  # files that a rule worth telling was used for, by rule
    loss: Loss | None = None  # tables and tars that can't be read in full

    def told(self) -> str:
        """Return the listing in a line."""
        text = f"{self.snapshot.rows} images in {len(self.snapshot)} shards"
        if self.changes is not None:
            counts = ", ".join(f"{count} {name}" for name, count in self.changes.items() if count)
            text += f"; objects since the last round: {counts or 'unchanged'}"
        if self.loss:
            text += f"; without {self.loss.told()}"
        if self.other:
            text += f"; {self.other} objects that are no .parquet, .tar or image"
        if self.left:
            text += "; left out: " + ", ".join(f"{count} {kind}" for kind, count in self.left.items())
        text += "".join(f"; {count} {rule}" for rule, count in self.notes.items())
        return text + (f"; {self.duplicates.num_rows} ids stand twice" if self.duplicates.num_rows else "")


@working("listing the pool")
def freeze(
    folder: Folder,
    config: Config,
    *,
    cluster: Cluster,
    wanted: Sequence[str] = (),
    earlier: Folder | None = None,
) -> Listing:
    """List a config's pool into a folder.

    The listing also finds the places of wanted ids, and ids that appear twice.

    Args:
        folder: where the snapshot goes.
        config: pool, storage and `scoring.max_quarantined`, which limits how many ids may appear twice.
        cluster: what the work runs on.
        wanted: ids whose places are needed.
        earlier: an earlier snapshot's folder, to compare with.

    Raises:
        PoolError: nothing there, a column is missing, too many ids appear twice, or tables or tars can't be read.
        StorageError: the URI may not be read.
        StageFailed: workers were lost, more often than Ray tries again.
    """
    source = PoolSource.of(config)
    writer = SnapshotWriter(folder)
    changes = Changes(listed_objects(earlier)) if earlier is not None else None
    shared = ray.put(pa.array(sorted(set(wanted)), pa.string()))
    look: Any = ray.remote(num_cpus=TASK_CPUS, num_returns=2)(survey_units)
    pending: deque[Any] = deque()
    gathered = Gathered()
    hashes: list[Any] = []
    other = 0
    beside: Listed | None = None

    def collect() -> None:
        seen: Found = ray.get(pending.popleft())
        if seen.mistake is not None:
            raise seen.mistake
        if changes is not None:
            for listed, _ in seen.shards:
                for item in listed:
                    changes.see(item.uri, item.etag)
        numbers = [writer.add(listed, digest) for listed, digest in seen.shards]
        for name, shard, row in seen.wanted:
            gathered.found.setdefault(
                name, (numbers[shard], row)
            )  # of an id that appears twice, the first counts
        gathered.add(seen.aside, source)

    for together in _tasks(units(source)):
        other += sum(unit.form == "other" for unit in together)
        gathered.left.update(unit.kind for unit in together if not unit.known)
        known = [unit for unit in together if unit.known]
        if known:
            beside = beside or next((unit.objects[0] for unit in known if unit.form == "parquet"), None)
            seen, ids = look.remote(known, shared, source)
            pending.append(seen)
            hashes.append(ids)
        while len(pending) > 2 * cluster.cpus:
            collect()
    while pending:
        collect()
    if changes is not None:
        changes.end()
    check_loss(gathered, config)
    snapshot = writer.close()
    if not len(snapshot):
        raise _empty(source, beside)
    write_lost(folder, gathered.lost)
    counts = None if changes is None else {n: getattr(changes, n) for n in ("new", "changed", "vanished")}
    duplicates = _duplicates(snapshot, hashes, config)
    folder.write_table(keys.DUPLICATES, duplicates)
    return Listing(
        snapshot,
        gathered.found,
        duplicates,
        other,
        counts,
        left=most(gathered.left, MOST_KINDS),
        notes=most(gathered.notes, MOST_KINDS),
        loss=gathered.loss if gathered.lost else None,
    )


def _empty(source: PoolSource, beside: Listed | None) -> PoolError:
    """Make the error for a pool without rows.

    A Parquet file may lack the column of images."""
    if beside is not None and has_rows(beside, source) is None:
        return no_images(source, beside)
    return PoolError(f"pool.uri: {source.pool.place} holds no rows")


def _tasks(listed: Iterable[Unit]) -> Iterator[list[Unit]]:
    together: list[Unit] = []
    files = objects = 0
    for unit in listed:
        together.append(unit)
        files += unit.form != "image"
        objects += len(unit.objects)
        if files == TASK_FILES or objects >= TASK_OBJECTS:
            yield together
            together, files, objects = [], 0, 0
    if together:
        yield together


# ---------------------------------------------------------------------------------------------- duplicates


def _duplicates(snapshot: Snapshot, hashes: Sequence[Any], config: Config) -> pa.Table:
    """Find the rows whose id appears earlier in the pool.

    Workers find them by hashes; the ids themselves confirm them.

    Raises:
        PoolError: more than the config tolerates.
    """
    buckets = -(-snapshot.rows // BUCKET_ROWS)
    remote: Any = ray.remote(num_cpus=TASK_CPUS)
    repeats = remote(_repeats)
    answers = ray.get(
        [repeats.remote(hashes, bucket, buckets=buckets, most=MOST_REPEATS) for bucket in range(buckets)]
    )
    suspects = np.sort(np.concatenate([places for _, places in answers]))
    first: dict[str, str] = {}
    found: list[dict[str, Any]] = []
    for shard, row, name, at in _named(snapshot, suspects, config):
        if name in first:
            found.append({"shard": shard, "row": row, "id": name, "first": first[name], "at": at})
        else:
            first[name] = at
    all_named = sum(count for count, _ in answers) == len(suspects)
    if found and not (all_named and len(found) <= config.scoring.max_quarantined * snapshot.rows):
        one = found[0]
        hint = "; pool.tar_ids: path puts the tar's key before them" if ".tar" in one["at"] else ""
        if not hint and ".parquet" in one["at"]:
            hint = "; pool.id_column names the column of ids, and null makes them of object and row"
        raise PoolError(
            f"{len(found)}{'' if all_named else ' and more'} of {snapshot.rows} ids stand in the pool before, "
            f"more than scoring.max_quarantined ({config.scoring.max_quarantined:g}) or {MOST_REPEATS} tolerate; "
            f"{one['id']!r} stands in {one['first']} and in {one['at']}; ids must be unique{hint}"
        )
    return pa.Table.from_pylist(found, schema=DUPLICATES)


def _repeats(hashes: Sequence[Any], bucket: int, *, buckets: int, most: int) -> tuple[int, NDArray[np.int64]]:
    """Find the rows of a bucket whose hash repeats, on a worker.

    Returns how many they are, and their places. Of more than `most`, the places of one hash: enough to refuse the pool
    with an example.
    """
    values, places = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    start = 0
    for ref in hashes:
        part = ray.get(ref)
        chosen = np.flatnonzero(part % np.uint64(buckets) == bucket)
        values.append(part[chosen])
        places.append(chosen + start)
        start += len(part)
    value = np.concatenate(values)
    place = np.concatenate(places)
    _, inverse, counts = np.unique(value, return_inverse=True, return_counts=True)
    again = np.flatnonzero(counts[inverse] > 1)
    if len(again) > most:
        return len(again), np.sort(place[value == value[again[0]]])[: max(most, 2)]
    return len(again), np.sort(place[again])


def _named(
    snapshot: Snapshot, suspects: NDArray[np.int64], config: Config
) -> Iterator[tuple[int, int, str, str]]:
    """Find rows by their places in the whole listing.

    Yields (shard, row, id, where it is), in the order of the places.
    """
    if not len(suspects):
        return
    rows = snapshot.table["rows"].to_numpy()
    ends = np.cumsum(rows)
    places = np.searchsorted(ends, suspects, side="right")
    within = np.split(suspects - (ends - rows)[places], np.flatnonzero(np.diff(places)) + 1)
    read = ray.remote(num_cpus=TASK_CPUS)(_names_at)
    wanted = [snapshot.take([place]) for place in np.unique(places)]
    answers = [read.remote(one, chosen, config) for one, chosen in zip(wanted, within, strict=True)]
    for shard, chosen, answer in zip(wanted, within, answers, strict=True):
        where, names = ray.get(answer)
        (number,) = shard.numbers.tolist()
        for row, name, at in zip(chosen.tolist(), names, where, strict=True):
            yield number, row, name, at


def _names_at(one: Snapshot, rows: NDArray[np.int64], config: Config) -> tuple[list[str], list[str]]:
    """Return where some rows of a shard are, and their ids.

    It runs on a worker; the places are for people.
    """
    (shard,) = load_shards(one.folder, one.table)
    names = ids_of(shard, PoolSource.of(config))
    alone = len(shard.listed) == 1
    where = [f"{shard.place} row {row}" if alone else shard.listed[row].uri for row in rows.tolist()]
    return where, [names[row] for row in rows.tolist()]


def refusals(duplicates: pa.Table) -> dict[int, dict[int, str]]:
    """Return why rows are not scored: {shard: {row: reason}}."""
    found: dict[int, dict[int, str]] = {}
    for row in duplicates.to_pylist():
        reason = f"duplicate id: it stands first in {row['first']}"
        found.setdefault(row["shard"], {})[row["row"]] = reason
    return found
