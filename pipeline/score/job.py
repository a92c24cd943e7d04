"""Scoring of a listed pool with Ray Data.

Ray Data reads and decodes, an actor pool scores, and a finished shard leaves its file.

A shard is the unit of reading, resuming and accounting: `parts/NNNNNNNN.parquet`, written atomically, means that it
is done; a shard without it is done again. Rows pass through the driver only as scores, and only until their shard
is complete.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from pipeline.cluster.layout import Cluster
from pipeline.config.project import Config
from pipeline.errors import AccountError, StageFailed, StoreUnavailable, ours
from pipeline.pool.listing import refusals
from pipeline.pool.pieces import Reading
from pipeline.pool.read_tasks import ReadTask
from pipeline.pool.reading import ReadShards
from pipeline.pool.snapshot import Snapshot, load_shards
from pipeline.pool.source import PoolSource
from pipeline.score.account import Tally, allowed, close_account, overflow, write_part
from pipeline.score.assembler import ShardAssembler
from pipeline.score.broadcast import Broadcast, Models
from pipeline.score.memory import MemoryPlan, plan_memory
from pipeline.score.scorer import Scorer, ScoringOptions
from pipeline.voice import Counter, Publish, Voice
from pipeline.workspace import keys
from pipeline.workspace.folder import Folder
from pipeline.workspace.records import Account

ATTEMPTS = 3  # of the whole Data job; each resumes where the last one stopped
WAVE_SHARDS = 4096  # of one Data job: its driver keeps notes on every block until the job ends
TASK_ROWS = 1024  # small shards are read together, so that no task is mere overhead
WRITES = 64  # shards that may wait to be written: where storage is slower than scoring, it has to catch up


@dataclass(frozen=True)
class Scored:
    """The account of a pool, and the work of this run."""

    account: Account
    images: int
    seconds: float


@dataclass(frozen=True)
class Job:
    """A pool to score, the models that score it, and the cluster."""

    snapshot: Snapshot
    refused: Mapping[int, Mapping[int, str]]  # {shard: {row: reason}}: ids that appear before
    shared: Broadcast
    config: Config
    cluster: Cluster
    memory: MemoryPlan
    seed: int

    @property
    def folder(self) -> Folder:
        """The folder of the listing and the scores."""
        return self.snapshot.folder


def prepare(snapshot: Snapshot, models: Models, config: Config, *, cluster: Cluster, seed: int = 0) -> Job:
    """Plan the memory and share what actors need with the cluster.

    Args:
        snapshot: of the pool; the scores go into its folder.
        models: what the pool is scored with.
        config: how it is read and scored.
        cluster: where.
        seed: of the query's strategy.
    """
    arrays = models.bank.to_arrays().values()
    memory = plan_memory(
        config,
        cluster,
        rows=snapshot.rows,
        bank_bytes=sum(array.nbytes for array in arrays),
        weight_bytes=models.network.weights.nbytes * config.query.networks,
    )
    most = config.resources.bank_share * cluster.object_store
    refused = refusals(snapshot.folder.read_table(keys.DUPLICATES))
    return Job(snapshot, refused, Broadcast.of(models, most_bytes=most), config, cluster, memory, seed)


class _ScoringActor:
    """Ray actor that wraps a `Scorer`.

    It fetches what all actors of a node share.
    """

    def __init__(self, shared: Broadcast, options: ScoringOptions) -> None:
        network, bank = shared.receive()
        detector, members = shared.receive_detector(), shared.receive_members()
        self._scorer = Scorer(network, bank, options, detector=detector, members=members)

    def __call__(self, batches: pa.Table) -> pa.Table:
        return self._scorer(batches)


def score_pool(job: Job, voice: Voice, publish: Publish | None = None) -> Scored:
    """Score every unfinished shard, and account for all shards.

    Raises:
        AccountError: shards were still unfinished after bounded attempts, or ids do not add up.
        QuarantineOverflow: more than `scoring.max_quarantined` of the rows are broken.
    """
    began = time.perf_counter()
    worked = 0
    todo = _unfinished(job, job.snapshot)
    if len(todo):
        before = job.snapshot.rows - todo.rows
        voice.say(f"    {job.memory.told()}")
        with voice.counting("scoring", job.snapshot.rows, before=before, publish=publish) as counter:
            watch = _Watch(voice, counter, Tally())
            for wave in _waves(todo):
                worked += _finish(job, wave, watch)
    seconds = time.perf_counter() - began
    total = close_account(job.snapshot, job.config, job.cluster)
    account = Account(listed=job.snapshot.rows, scored=total.scored, quarantined=total.quarantined)
    return Scored(account, worked, seconds)


@dataclass(frozen=True)
class _Watch:
    """The listeners of a job: people, and the count of broken rows."""

    voice: Voice
    counter: Counter
    tally: Tally


def _finish(job: Job, wave: Snapshot, watch: _Watch) -> int:
    """Score a wave of shards; return how many rows came out.

    It takes as many Data jobs as needed, `ATTEMPTS` at most.
    """
    rows = 0
    left = wave
    for attempt in range(1, ATTEMPTS + 1):
        try:
            rows += _run(job, left, watch, attempt=attempt)
        except (
            ray.exceptions.RayError,
            ray.data.exceptions.ExecutionTimeoutError,
            StoreUnavailable,
        ) as error:
            behind = ours(error)
            if behind is not None and not isinstance(behind, StoreUnavailable):  # a retry does not help
                raise behind from error
            why = _first_line(behind or error)
            if attempt == ATTEMPTS:
                raise behind or StageFailed(f"scoring stopped {ATTEMPTS} times, lastly: {why}") from error
            watch.voice.say(f"    scoring stopped ({why}); going on with what is left")
        left = _unfinished(job, left)
        if not len(left):
            return rows
    first = left.take(range(min(5, len(left))))
    places = ", ".join(shard.place for shard in load_shards(job.folder, first.table))
    raise AccountError(f"{len(left)} of {len(job.snapshot)} shards are not finished: {places}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _unfinished(job: Job, shards: Snapshot) -> Snapshot:
    done = set(job.folder.names(keys.PARTS))
    left = [keys.scored_part_key(number) not in done for number in shards.numbers.tolist()]
    return shards.take(np.flatnonzero(left))


def _waves(shards: Snapshot) -> Iterator[Snapshot]:
    for start in range(0, len(shards), WAVE_SHARDS):
        yield shards.take(range(start, min(len(shards), start + WAVE_SHARDS)))


def _tasks(shards: Snapshot) -> Iterator[pa.Table]:
    """Divide shards into runs that one task reads."""
    rows = shards.table["rows"].to_pylist()
    start = size = 0
    for i, count in enumerate(rows):
        if i > start and size + count > TASK_ROWS:
            yield shards.table.slice(start, i - start).combine_chunks()
            start, size = i, 0
        size += count
    yield shards.table.slice(start).combine_chunks()


@contextmanager
def _context(job: Job) -> Iterator[None]:
    """Apply Ray Data's settings for one job.

    Blocks and bytes in flight are bounded, and a job that makes no progress ends.
    """
    context = ray.data.DataContext.get_current()
    wanted = {
        "target_max_block_size": max(1, job.memory.block_bytes - 1),  # a block ends where it exceeds this
        "execution_no_progress_timeout_s": job.config.resources.no_progress_s,
        # A share and no number, so that it grows with the cluster.
        "override_object_store_memory_limit_fraction": job.memory.store_share,
    }
    saved = {name: getattr(context, name) for name in wanted}
    for name, value in wanted.items():
        setattr(context, name, value)
    try:
        yield
    finally:
        for name, value in saved.items():
            setattr(context, name, value)


def _run(job: Job, shards: Snapshot, watch: _Watch, *, attempt: int) -> int:
    """Do one Data job over unfinished shards.

    Returns how many rows came out of it.
    """
    assembler = ShardAssembler(
        dict(zip(shards.numbers.tolist(), shards.table["rows"].to_pylist(), strict=True))
    )
    rows, tally = 0, watch.tally
    together, metadata = job.config.query.together, bool(job.config.pool.metadata)
    writes: deque[Future[None]] = deque()
    with _context(job), ThreadPoolExecutor(4, thread_name_prefix="parts") as pool:
        for table in _scored(job, shards, attempt):
            rows += table.num_rows
            watch.counter.add(table.num_rows, table.num_rows - table["reason"].null_count)
            for number, whole in assembler.add(table):
                tally.count(whole.filter(pc.is_valid(whole["reason"])))
                if tally.quarantined > allowed(job.snapshot, job.config):
                    for write in writes:  # or `overflow` would undo shards before they are written
                        write.result()
                    raise overflow(job.snapshot, job.config, tally, where=keys.PARTS)
                keep = partial(write_part, job.folder, number, whole, together=together, metadata=metadata)
                writes.append(pool.submit(keep))
            while len(writes) > WRITES:
                writes.popleft().result()
        for write in writes:
            write.result()
    return rows


def _scored(job: Job, shards: Snapshot, attempt: int) -> Iterable[Any]:
    """Return the `SCORED` rows of shards, in tables of any size.

    The tables are computed while they are iterated.
    """
    config, cluster = job.config, job.cluster
    # A hung decoder must be found before the whole job counts as hung; it is tried twice.
    hang_s = min(60.0, config.resources.no_progress_s / 4)
    reading = Reading(PoolSource.of(config), job.memory.encoded, hang_s)
    wanted = set(shards.numbers.tolist())
    read = ReadShards(
        job.folder,
        reading,
        config.model.transform(config.scoring.max_pixels),
        config.scoring.batch_size,
        {number: rows for number, rows in job.refused.items() if number in wanted},
    )
    options = ScoringOptions.of(config, cluster.device, seed=job.seed, tiles=job.memory.tiles)
    tasks = list(_tasks(shards))
    batches = ray.data.from_arrow(tasks).map_batches(
        ReadTask(read, 2 if attempt > 1 else 0),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=cluster.reader_cpus,
        memory=job.memory.reader_memory,
        compute=ray.data.TaskPoolStrategy(min(job.memory.most_readers, len(tasks))),
    )
    scored = batches.map_batches(
        _ScoringActor,
        fn_constructor_args=(job.shared, options),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=job.memory.actor_cpus,
        num_gpus=cluster.actor_gpus or None,
        compute=ray.data.ActorPoolStrategy(
            min_size=cluster.min_actors,
            max_size=max(job.memory.actors, job.memory.most_actors),
            initial_size=job.memory.actors,
            max_tasks_in_flight_per_actor=4,
        ),
    )
    tables: Iterable[Any] = scored.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    return tables
