"""The account: every listed row is scored or quarantined, by id.

A finished shard leaves one file under `parts/`, written atomically: if it is there, the shard is done. When all are
done, workers check each shard's ids against the listing and merge runs of shards into the few large files of `scores/`
and `quarantine/`. These workers need neither torch nor a model, so that they start fast.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray

from pipeline.cluster.faults import working
from pipeline.cluster.layout import TASK_CPUS, Cluster
from pipeline.config.project import Config
from pipeline.errors import AccountError, QuarantineOverflow, StoreUnavailable
from pipeline.pool.inventory.found import digest_of
from pipeline.pool.snapshot import Snapshot, load_shard
from pipeline.types import EXTRAS, FACTS, PART, QUARANTINE, SCORES, TOGETHER
from pipeline.workspace import keys
from pipeline.workspace.folder import Folder

FILE_ROWS = 1_000_000
GROUP_ROWS = 65_536
SMALL_ROWS = 100_000  # merged in the driver, in half a second; a worker's start alone takes two
MOST_SHARDS = 4096  # in one file: each is a read
SHOWN = 3
_PLACE = re.compile(r"(#\d+)?:\d+")  # behind the URI, in the id of a row whose own can't be read


def write_part(
    folder: Folder, shard: int, rows: pa.Table, *, together: bool = False, metadata: bool = False
) -> None:
    """Write a whole shard's rows, the scored and the quarantined.

    For a query that looks at rows `together`, those in distribution go into a file of their own, with features. Rows
    keep their `metadata` if the config asks for any.
    """
    if together:
        usual = pc.and_(pc.is_null(rows["reason"]), pc.invert(pc.fill_null(rows["is_ood"], True)))
        folder.write_table(keys.together_key(shard), rows.filter(usual).select(TOGETHER.names).cast(TOGETHER))
    kept = pa.schema([*PART, FACTS]) if metadata else PART
    folder.write_table(keys.scored_part_key(shard), rows.select(kept.names).cast(kept))


@dataclass
class Tally:
    """The fate of listed rows in numbers.

    `wrong` describes shards that do not add up, `retry` lists those worth another try.
    """

    scored: int = 0
    quarantined: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # by their words before a colon
    examples: dict[str, str] = field(default_factory=dict)  # the first whole reason of each
    wrong: dict[int, str] = field(default_factory=dict)
    retry: list[int] = field(default_factory=list)
    files: int = 0

    def count(self, broken: pa.Table) -> None:
        """Count the quarantined rows of one shard.

        A shard for which storage was at fault goes into `retry`.
        """
        self.quarantined += broken.num_rows
        for reason in broken["reason"].to_pylist():
            kind = reason.partition(":")[0]
            self.reasons[kind] += 1
            self.examples[kind] = min(reason, self.examples.get(kind, reason))
        # Storage that did not answer, or credentials that had run out, are no fault of the data.
        refused = any(reason.startswith("refused") for reason in broken["reason"].to_pylist())
        if broken.num_rows and (refused or pc.max(broken["attempts"]).as_py() > 1):
            self.retry.append(broken["shard"][0].as_py())

    def add(self, other: Tally) -> None:
        """Count another tally too."""
        self.scored += other.scored
        self.quarantined += other.quarantined
        self.reasons += other.reasons
        for kind, reason in other.examples.items():
            self.examples[kind] = min(reason, self.examples.get(kind, reason))
        self.wrong |= other.wrong
        self.retry += other.retry
        self.files += other.files


@working("closing the account")
def close_account(snapshot: Snapshot, config: Config, cluster: Cluster) -> Tally:
    """Check the account of each shard, and write the score files.

    Workers check by id, shard by shard, that `scored + quarantined == listed`.

    Raises:
        AccountError: an id of the pool is missing from the files, is there twice, or does not belong there.
        QuarantineOverflow: too many rows are broken. Shards whose rows failed because of storage count as
            unfinished from then on.
    """
    folder, total = snapshot.folder, Tally()
    columns = FileColumns(config.extra_columns, config.pool.metadata)
    for tally in _merged(list(_runs(snapshot)), columns, cluster):
        total.add(tally)
    if total.wrong:
        _undo(folder, total.wrong)
        shown = "; ".join(list(total.wrong.values())[:SHOWN])
        raise AccountError(
            f"the account does not add up in {len(total.wrong)} shards, which the next run scores again: {shown}"
        )
    ends = (
        (keys.SCORES, keys.score_file_key(total.files)),
        (keys.QUARANTINE, keys.quarantine_file_key(total.files)),
    )
    for group, end in ends:  # of an attempt that divided the shards otherwise
        for name in folder.names(group):
            if name >= end.removesuffix(".parquet"):
                folder.delete(name)
    if total.retry and config.scoring.max_quarantined >= 1.0:  # nothing else would report it
        _undo(folder, total.retry)
        raise StoreUnavailable(
            f"storage did not answer for images in {len(total.retry)} shards, which the next run scores again"
        )
    if total.quarantined > allowed(snapshot, config):
        raise overflow(snapshot, config, total, where=keys.QUARANTINE)
    return total


@dataclass(frozen=True)
class FileColumns:
    """The columns of score files beside `SCORES`."""

    extra: tuple[str, ...]
    metadata: tuple[str, ...]

    @property
    def facts(self) -> list[pa.Field]:
        """The fields of metadata, in scored and in quarantined rows."""
        return [pa.field(name, pa.string()) for name in self.metadata]

    def spread(self, part: pa.Table) -> pa.Table:
        """Return a shard's rows with a column for each of the metadata."""
        if not self.metadata:
            return part
        width = len(self.metadata)
        rows = [values or [None] * width for values in part[FACTS.name].to_pylist()]
        for place, fact in enumerate(self.facts):
            part = part.append_column(fact, pa.array([values[place] for values in rows], pa.string()))
        return part


def _merged(runs: Sequence[Snapshot], columns: FileColumns, cluster: Cluster) -> Iterator[Tally]:
    if len(runs) == 1 and runs[0].rows <= SMALL_ROWS:  # not worth a worker's start
        yield _merge(runs[0], 0, columns)
        return
    merge: Any = ray.remote(num_cpus=TASK_CPUS)(_merge)
    pending: deque[Any] = deque()
    for number, run in enumerate(runs):
        pending.append(merge.remote(run, number, columns))
        if len(pending) > 2 * cluster.cpus:
            yield ray.get(pending.popleft())
    while pending:
        yield ray.get(pending.popleft())


def allowed(snapshot: Snapshot, config: Config) -> float:
    """Return how many rows may be quarantined."""
    return config.scoring.max_quarantined * snapshot.rows


def overflow(snapshot: Snapshot, config: Config, tally: Tally, *, where: str) -> QuarantineOverflow:
    """Return the error for too many broken rows.

    Shards whose rows failed because of storage become unfinished again. `where` names the folder of the others.
    """
    _undo(snapshot.folder, tally.retry)
    top = sorted(tally.reasons.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
    again = "; what storage did not answer for is tried again by the next run" if tally.retry else ""
    return QuarantineOverflow(
        f"{tally.quarantined} of {snapshot.rows} rows are broken, more than scoring.max_quarantined "
        f"({config.scoring.max_quarantined:g}) tolerates; raise it, or mend the rows that "
        f"{snapshot.folder.url(where.removesuffix('/'))} names; most often: "
        + "; ".join(f"{kind} ({count}, such as {tally.examples[kind]!r})" for kind, count in top)
        + again
    )


def _undo(folder: Folder, shards: Iterable[int]) -> None:
    """Make shards unfinished again."""
    for shard in shards:
        folder.delete(keys.scored_part_key(shard))


def clear_parts(folder: Folder) -> None:
    """Remove the parts that the score files have replaced."""
    _clear(folder, keys.PARTS)


def clear_together(folder: Folder) -> None:
    """Remove the rows of a whole-pool strategy, once there is a query."""
    _clear(folder, keys.TOGETHER)


def _clear(folder: Folder, name: str) -> None:
    with ThreadPoolExecutor(16, thread_name_prefix="clear") as threads:
        list(threads.map(folder.delete, folder.names(name)))


def _runs(snapshot: Snapshot) -> Iterator[Snapshot]:
    """Divide the listing into runs of shards that share a file.

    The runs are consecutive shards, and depend on the listing alone.
    """
    rows = snapshot.table["rows"].to_pylist()
    start = size = 0
    for i, count in enumerate(rows):
        if i > start and (size + count > FILE_ROWS or i - start == MOST_SHARDS):
            yield snapshot.take(range(start, i))
            start, size = i, 0
        size += count
    yield snapshot.take(range(start, len(rows)))


def _merge(run: Snapshot, number: int, columns: FileColumns) -> Tally:
    """Check a run's shards, and write its score and quarantine files.

    It runs on a worker, or in the driver for a small pool.
    """
    folder, tally = run.folder, Tally(files=1)
    schema = pa.schema([*SCORES, *(EXTRAS.field(name) for name in columns.extra), *columns.facts])
    lost = pa.schema([*QUARANTINE, *columns.facts])
    good, bad = [schema.empty_table()], [lost.empty_table()]
    for row in run.table.to_pylist():
        part = columns.spread(folder.read_table(keys.scored_part_key(row["shard"])))
        broken = part.filter(pc.is_valid(part["reason"]))
        scored = part.filter(pc.is_null(part["reason"]))
        if not _adds_up(part, broken, rows=row["rows"], digest=row["ids"]):
            place = load_shard(folder, part=row["part"], number=row["shard"]).place
            tally.wrong[row["shard"]] = (
                f"{place}: {row['rows']} listed, {scored.num_rows} + {broken.num_rows} found"
            )
        tally.scored += scored.num_rows
        tally.count(broken)
        good.append(scored.select(schema.names))
        bad.append(broken.select(lost.names))
    _write(folder, keys.score_file_key(number), good)
    if tally.quarantined:
        _write(folder, keys.quarantine_file_key(number), bad)
    else:  # an earlier attempt may have left some
        folder.delete(keys.quarantine_file_key(number))
    return tally


def _write(folder: Folder, name: str, tables: Sequence[pa.Table]) -> None:
    folder.write_table(name, pa.concat_tables(tables).combine_chunks(), row_group_size=GROUP_ROWS)


def _adds_up(part: pa.Table, broken: pa.Table, *, rows: int, digest: str) -> bool:
    """Return whether a shard's rows are the listed ones.

    They are compared by id, or by number where some ids could not be read again.
    """
    if part.num_rows != rows:
        return False
    if digest_of(part["id"].combine_chunks()) == digest:
        return True
    # Such rows have their place instead of an id.
    unread = broken.filter(pc.equal(broken["stage"], "read")).select(["id", "uri"]).to_pylist()
    return any(_PLACE.fullmatch(row["id"].removeprefix(row["uri"])) for row in unread)
