"""The account: by id, every listed row is scored or quarantined; and the few large files that come of it.

A finished shard leaves one file under `parts/`, written atomically: that file is the promise that the shard is
done. When all are done, workers check each shard's ids against the listing and merge runs of shards into
`scores/` and `quarantine/`. Light on purpose: these workers need neither torch nor a model.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray

from pipeline.cluster.faults import working
from pipeline.cluster.layout import Cluster
from pipeline.config.project import Config
from pipeline.errors import AccountError, QuarantineOverflow, StoreUnavailable
from pipeline.pool.shards import digest_of
from pipeline.pool.snapshot import Snapshot, load_shard
from pipeline.types import EXTRAS, PART, QUARANTINE, SCORES, TOGETHER
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace

FILE_ROWS = 1_000_000
GROUP_ROWS = 65_536
SMALL_ROWS = 100_000  # merged in the driver, in half a second; a worker's start alone takes two
MOST_SHARDS = 4096  # of a file: each is a read
SHOWN = 3


def write_part(
    workspace: Workspace, prefix: str, shard: int, rows: pa.Table, *, together: bool = False
) -> None:
    """Write a whole shard's rows, the scored and the quarantined.

    For a query that looks at rows `together`, those in distribution go into a file of their own, with features.
    """
    if together:
        usual = pc.and_(pc.is_null(rows["reason"]), pc.invert(pc.fill_null(rows["is_ood"], True)))
        workspace.write_table(
            prefix + keys.together_key(shard), rows.filter(usual).select(TOGETHER.names).cast(TOGETHER)
        )
    workspace.write_table(prefix + keys.scored_part_key(shard), rows.select(PART.names).cast(PART))


@dataclass
class Tally:
    """What became of listed rows. `wrong` tells of shards that do not add up, `retry` has those worth another try."""

    scored: int = 0
    quarantined: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # by their words before a colon
    examples: dict[str, str] = field(default_factory=dict)  # the first whole reason of each
    wrong: dict[int, str] = field(default_factory=dict)
    retry: list[int] = field(default_factory=list)
    files: int = 0

    def count(self, broken: pa.Table) -> None:
        """Count quarantined rows of one shard, and whether it is worth another try."""
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
def close_account(
    workspace: Workspace, prefix: str, snapshot: Snapshot, config: Config, cluster: Cluster
) -> Tally:
    """Check by id that `scored + quarantined == listed`, shard by shard on workers, and write the score files.

    Raises:
        AccountError: an id of the pool is missing from the files, is there twice, or does not belong there.
        QuarantineOverflow: too many rows are broken. Shards whose rows failed for storage's sake count as
            unfinished from then on.
    """
    total = Tally()
    for tally in _merged(workspace, prefix, list(_runs(snapshot)), config.extra_columns, cluster):
        total.add(tally)
    if total.wrong:
        _undo(workspace, prefix, total.wrong)
        shown = "; ".join(list(total.wrong.values())[:SHOWN])
        raise AccountError(
            f"the account does not add up in {len(total.wrong)} shards, which the next run scores again: {shown}"
        )
    for folder in (keys.SCORES, keys.QUARANTINE):  # of an attempt that divided the shards otherwise
        for key in workspace.keys(prefix + folder):
            if key >= f"{prefix}{folder}{total.files:05d}":
                workspace.store.delete(key)
    if total.retry and config.scoring.max_quarantined >= 1.0:  # nothing else would tell
        _undo(workspace, prefix, total.retry)
        raise StoreUnavailable(
            f"storage did not answer for images in {len(total.retry)} shards, which the next run scores again"
        )
    if total.quarantined > allowed(snapshot, config):
        raise overflow(workspace, prefix, snapshot, config, total, "quarantine")
    return total


def _merged(
    workspace: Workspace, prefix: str, runs: Sequence[Snapshot], extra: Sequence[str], cluster: Cluster
) -> Iterator[Tally]:
    if len(runs) == 1 and runs[0].rows <= SMALL_ROWS:  # not worth a worker's start
        yield _merge(workspace, prefix, 0, runs[0].table, extra)
        return
    merge: Any = ray.remote(num_cpus=cluster.task_cpus)(_merge)
    pending: deque[Any] = deque()
    for number, run in enumerate(runs):
        pending.append(merge.remote(workspace, prefix, number, run.table, extra))
        if len(pending) > 2 * cluster.cpus:
            yield ray.get(pending.popleft())
    while pending:
        yield ray.get(pending.popleft())


def allowed(snapshot: Snapshot, config: Config) -> float:
    """How many rows may be quarantined."""
    return config.scoring.max_quarantined * snapshot.rows


def overflow(
    workspace: Workspace, prefix: str, snapshot: Snapshot, config: Config, tally: Tally, where: str
) -> QuarantineOverflow:
    """The error for too many broken rows. What failed for storage's sake counts as unfinished from now on."""
    _undo(workspace, prefix, tally.retry)
    top = sorted(tally.reasons.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
    again = "; what storage did not answer for is tried again by the next run" if tally.retry else ""
    return QuarantineOverflow(
        f"{tally.quarantined} of {snapshot.rows} rows are broken, more than scoring.max_quarantined "
        f"({config.scoring.max_quarantined:g}) tolerates; raise it, or mend the rows that "
        f"{workspace.store.url(prefix + where)} names; most often: "
        + "; ".join(f"{kind} ({count}, such as {tally.examples[kind]!r})" for kind, count in top)
        + again
    )


def _undo(workspace: Workspace, prefix: str, shards: Iterable[int]) -> None:
    """Make shards unfinished again."""
    for shard in shards:
        workspace.store.delete(prefix + keys.scored_part_key(shard))


def clear_parts(workspace: Workspace, prefix: str) -> None:
    """Remove what the score files have replaced."""
    _clear(workspace, prefix + keys.PARTS)


def clear_together(workspace: Workspace, prefix: str) -> None:
    """Remove what a query looked at together, once the query is written."""
    _clear(workspace, prefix + keys.TOGETHER)


def _clear(workspace: Workspace, folder: str) -> None:
    with ThreadPoolExecutor(16, thread_name_prefix="clear") as threads:
        list(threads.map(workspace.store.delete, workspace.keys(folder)))


def _runs(snapshot: Snapshot) -> Iterator[Snapshot]:
    """Consecutive shards that share a file; a function of the listing alone."""
    rows = snapshot.table["rows"].to_pylist()
    start = size = 0
    for i, count in enumerate(rows):
        if i > start and (size + count > FILE_ROWS or i - start == MOST_SHARDS):
            yield snapshot.take(range(start, i))
            start, size = i, 0
        size += count
    yield snapshot.take(range(start, len(rows)))


def _merge(workspace: Workspace, prefix: str, number: int, shards: pa.Table, extra: Sequence[str]) -> Tally:
    """On a worker: check shards and write their rows as one score file and one quarantine file."""
    tally = Tally(files=1)
    schema = pa.schema([*SCORES, *(EXTRAS.field(name) for name in extra)])
    good, bad = [schema.empty_table()], [QUARANTINE.empty_table()]
    for row in shards.to_pylist():
        part = workspace.read_table(prefix + keys.scored_part_key(row["shard"]))
        broken = part.filter(pc.is_valid(part["reason"]))
        whole = part.filter(pc.is_null(part["reason"]))
        if not _adds_up(part, broken, row["rows"], row["ids"]):
            place = load_shard(workspace, prefix, row["part"], row["shard"]).place
            tally.wrong[row["shard"]] = (
                f"{place}: {row['rows']} listed, {whole.num_rows} + {broken.num_rows} found"
            )
        tally.scored += whole.num_rows
        tally.count(broken)
        good.append(whole.select(schema.names))
        bad.append(broken.select(QUARANTINE.names))
    _write(workspace, prefix + keys.score_file_key(number), good)
    if tally.quarantined:
        _write(workspace, prefix + keys.quarantine_file_key(number), bad)
    else:  # an earlier attempt may have left some
        workspace.store.delete(prefix + keys.quarantine_file_key(number))
    return tally


def _write(workspace: Workspace, key: str, tables: Sequence[pa.Table]) -> None:
    workspace.write_table(key, pa.concat_tables(tables).combine_chunks(), row_group_size=GROUP_ROWS)


def _adds_up(part: pa.Table, broken: pa.Table, rows: int, digest: str) -> bool:
    """Whether a shard's rows are the listed ones: by id, or by number where some ids could not be read again."""
    if part.num_rows != rows:
        return False
    if digest_of(part["id"].combine_chunks()) == digest:
        return True
    # Such rows have their place instead of an id.
    unread = broken.filter(pc.equal(broken["stage"], "read")).select(["id", "uri"]).to_pylist()
    return any(row["id"].startswith((f"{row['uri']}#", f"{row['uri']}:")) for row in unread)
