"""The listing of a pool into a snapshot.

The driver streams keys, and workers look into the objects. Memory in the driver: the objects in flight, and a row a
shard. Only ids that are labeled or appear twice come to the driver.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import ray
from numpy.typing import NDArray

from pipeline.cluster.faults import working
from pipeline.cluster.layout import Cluster
from pipeline.config.project import Config
from pipeline.errors import NoImageColumn, PoolError
from pipeline.pool.shards import Survey, Unit, ids_of, survey, units
from pipeline.pool.snapshot import Changes, Snapshot, SnapshotWriter, listed_objects, load_shards
from pipeline.pool.source import PoolSource
from pipeline.types import Listed
from pipeline.workspace import keys
from pipeline.workspace.folder import Folder

TASK_OBJECTS = 1024  # image objects a task looks at together, or
TASK_FILES = 8  # files
BUCKET_ROWS = 16_000_000  # ids compared in one task: 128 MB of hashes
MOST_REPEATS = 1_000_000

DUPLICATES = pa.schema(
    [("shard", pa.int32()), ("row", pa.int32()), ("id", pa.string()), ("first", pa.string())]
)


@dataclass(frozen=True)
class Unreadable:
    """A file of the pool that can't be read to its end.

    `rows` are those that are listed all the same; how many others there are nobody knows.
    """

    uri: str
    size: int
    rows: int
    reason: str


@dataclass(frozen=True)
class Listing:
    """A snapshot, and what its listing found beside it."""

    snapshot: Snapshot
    found: dict[str, tuple[int, int]]  # (shard, row) of each wanted id that is there
    duplicates: pa.Table  # `DUPLICATES` rows: ids that appear earlier in the pool
    other: int  # objects of no known form
    skipped: dict[str, int]  # what else was left out by rule: kind -> count
    unreadable: tuple[Unreadable, ...]  # files that can't be read to their end, and are quarantined
    changes: dict[str, int] | None  # new, changed and vanished objects since the earlier listing

    def told(self) -> str:
        """Return the listing in a line."""
        text = f"{self.snapshot.rows} images in {len(self.snapshot)} shards"
        if self.changes is not None:
            counts = ", ".join(f"{count} {name}" for name, count in self.changes.items() if count)
            text += f"; objects since the last round: {counts or 'unchanged'}"
        if self.unreadable:
            size = sum(file.size for file in self.unreadable)
            least = sum(file.rows for file in self.unreadable)
            text += (
                f"; {len(self.unreadable)} files of {size:,} bytes can't be read to their end: beside {least} rows "
                "that are listed, they may hold any number of images"
            )
        if self.other:
            text += f"; {self.other} objects that are no .parquet, .tar or image"
        if self.skipped:
            text += "; left out: " + ", ".join(
                f"{count} {kind}" for kind, count in sorted(self.skipped.items())
            )
        return text + (f"; {self.duplicates.num_rows} ids stand twice" if self.duplicates.num_rows else "")


@dataclass(frozen=True)
class _Found:
    """The results of a survey task.

    For each shard, what it lists and the digest of its ids; and the places of wanted ids.
    """

    shards: list[tuple[tuple[Listed, ...], str]]
    wanted: list[tuple[str, int, int]]  # id, shard among these, row
    skipped: Counter[str]
    broken: list[Unreadable]
    lacking: str | None  # what the first Parquet file without an image column lacks


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
        PoolError: nothing there, a column is missing, or too many ids appear twice.
        StorageError: the URI may not be read.
        StageFailed: workers were lost, more often than Ray tries again.
    """
    source = PoolSource.of(config)
    writer = SnapshotWriter(folder)
    changes = Changes(listed_objects(earlier)) if earlier is not None else None
    shared = ray.put(pa.array(sorted(set(wanted)), pa.string()))
    survey_units: Any = ray.remote(num_cpus=cluster.task_cpus, num_returns=2)(_survey_units)
    pending: deque[Any] = deque()
    found: dict[str, tuple[int, int]] = {}
    hashes: list[Any] = []
    forms: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    broken: list[Unreadable] = []
    lacking: list[str] = []

    def collect() -> None:
        seen: _Found = ray.get(pending.popleft())
        skipped.update(seen.skipped)
        broken.extend(seen.broken)
        lacking.extend([seen.lacking] if seen.lacking else [])
        if changes is not None:
            for listed, _ in seen.shards:
                for item in listed:
                    changes.see(item.uri, item.etag)
        numbers = [writer.add(listed, digest) for listed, digest in seen.shards]
        for name, shard, row in seen.wanted:
            found.setdefault(name, (numbers[shard], row))  # of an id that appears twice, the first counts

    for together in _tasks(units(source)):
        forms.update(unit.form for unit in together)
        known = [unit for unit in together if unit.form in ("parquet", "tar", "image")]
        if known:
            seen, ids = survey_units.remote(known, shared, source)
            pending.append(seen)
            hashes.append(ids)
        while len(pending) > 2 * cluster.cpus:
            collect()
    while pending:
        collect()
    if changes is not None:
        changes.end()
    snapshot = writer.close()
    if lacking and not (forms["tar"] or forms["image"]):
        raise NoImageColumn(lacking[0])
    most = config.pool.max_unreadable_files
    if most is not None and len(broken) > most:
        raise _unreadable(broken)
    for form, kind in (("system", "of other programs"), ("excluded", "by pool.include and pool.exclude")):
        if forms[form]:
            skipped[kind] = forms[form]
    if not len(snapshot):
        raise PoolError(f"pool.uri: {config.pool.uri} holds no rows")
    counts = None if changes is None else {n: getattr(changes, n) for n in ("new", "changed", "vanished")}
    duplicates = _duplicates(snapshot, hashes, config, cluster=cluster)
    folder.write_table(keys.DUPLICATES, duplicates)
    return Listing(snapshot, found, duplicates, forms["other"], dict(skipped), tuple(broken), counts)


def _unreadable(broken: Sequence[Unreadable]) -> PoolError:
    first = broken[0]
    others = f" and {len(broken) - 1} others" if len(broken) > 1 else ""
    return PoolError(
        f"{first.uri}{others} can't be read to the end ({first.reason}), so nobody knows how many images are missing; "
        "mend or remove what is broken, leave it out by pool.exclude, or raise pool.max_unreadable_files to go on "
        "without them"
    )


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


def _survey_units(
    together: Sequence[Unit], wanted: pa.StringArray, source: PoolSource
) -> tuple[_Found, NDArray[np.uint64]]:
    """Look into objects, on a worker.

    Returns what was found, and a hash of every id, in order.
    """
    shards: list[tuple[tuple[Listed, ...], str]] = []
    places: list[tuple[str, int, int]] = []
    hashes = [np.empty(0, np.uint64)]
    skipped: Counter[str] = Counter()
    broken: list[Unreadable] = []
    lacking: str | None = None
    with ThreadPoolExecutor(TASK_FILES, thread_name_prefix="survey") as threads:
        # A tar's headers arrive one after another: read tars side by side. The ids of many Parquet files take too much.
        side_by_side = all(unit.form != "parquet" for unit in together)
        for seen in (threads.map if side_by_side else map)(lambda unit: _looked_into(unit, source), together):
            if isinstance(seen, str):
                lacking = lacking or seen
                skipped["tables without images"] += 1
                continue
            skipped.update(seen.skipped)
            for group in seen.groups:
                if len(wanted):
                    held = pc.is_in(group.ids, value_set=wanted).to_numpy(zero_copy_only=False)
                    places += [
                        (group.ids[int(row)].as_py(), len(shards), int(row)) for row in np.flatnonzero(held)
                    ]
                if group.broken:
                    (item,) = group.listed
                    broken.append(Unreadable(item.uri, item.size, item.rows, group.broken))
                shards.append((group.listed, group.digest))
                hashes.append(pd.util.hash_array(group.ids.to_numpy(zero_copy_only=False), categorize=False))
    return _Found(shards, places, skipped, broken, lacking), np.concatenate(hashes)


def _looked_into(unit: Unit, source: PoolSource) -> Survey | str:
    """Survey a unit; a table without images says what it lacks."""
    try:
        return survey(unit, source)
    except NoImageColumn as error:
        return str(error)


# ---------------------------------------------------------------------------------------------- duplicates


def _duplicates(snapshot: Snapshot, hashes: Sequence[Any], config: Config, *, cluster: Cluster) -> pa.Table:
    """Find the rows whose id appears earlier in the pool.

    Workers find them by hashes; the ids themselves confirm them.

    Raises:
        PoolError: more than the config tolerates.
    """
    buckets = -(-snapshot.rows // BUCKET_ROWS)
    remote: Any = ray.remote(num_cpus=cluster.task_cpus)
    repeats = remote(_repeats)
    answers = ray.get(
        [repeats.remote(hashes, bucket, buckets=buckets, most=MOST_REPEATS) for bucket in range(buckets)]
    )
    suspects = np.sort(np.concatenate([places for _, places in answers]))
    first: dict[str, str] = {}
    found: list[dict[str, Any]] = []
    for shard, row, name, at in _named(snapshot, suspects, config, cluster=cluster):
        if name in first:
            found.append({"shard": shard, "row": row, "id": name, "first": first[name], "at": at})
        else:
            first[name] = at
    all_named = sum(count for count, _ in answers) == len(suspects)
    if found and not (all_named and len(found) <= config.scoring.max_quarantined * snapshot.rows):
        one = found[0]
        hint = "; pool.tar_ids: path puts the tar's key before them" if ".tar" in one["at"] else ""
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
    snapshot: Snapshot, suspects: NDArray[np.int64], config: Config, *, cluster: Cluster
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
    read = ray.remote(num_cpus=cluster.task_cpus)(_names_at)
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
