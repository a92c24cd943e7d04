"""Scoring a listed pool: Ray Data reads and decodes, an actor pool scores, a finished shard leaves its files.

A shard is the unit of reading, resuming and accounting. Its score file is written after its quarantine file, each
atomically, so the presence of `scores/NNNNNN.parquet` means that the shard is done; a shard without it is done
again. Rows pass through the driver only as scores, and only until their shard is complete.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

import sisom
from pipeline.account import account, score_key, write_shard
from pipeline.config import Config
from pipeline.engine import Cluster
from pipeline.errors import AccountError, StoreUnavailable
from pipeline.pool import snapshot_table
from pipeline.progress import Counter, Voice
from pipeline.reading import ReadShards
from pipeline.stages import SCORED, Network, Scorer
from pipeline.types import Shard
from pipeline.workspace import Workspace

ATTEMPTS = 3  # of the whole Data job; each goes on where the last one stopped


@dataclass(frozen=True)
class Account:
    """What became of the listed rows, and how long this run worked on them."""

    listed: int
    scored: int
    quarantined: int
    images: int
    seconds: float


class ShardAssembler:
    """Collects the scored rows of shards in any order and gives each shard back when it is whole.

    Memory: the score rows of the shards in flight. Rows that come twice, as after a worker's death, count once.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._missing = {shard.shard: np.ones(shard.rows, np.bool_) for shard in shards}
        self._parts: dict[int, list[pa.Table]] = {}

    def add(self, table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        """Take `SCORED` rows; yield (shard, its rows in stored order) for each shard that is now whole."""
        for shard in pc.unique(table["shard"]).to_pylist():
            missing = self._missing.get(shard)
            if missing is None:  # given back already
                continue
            part = table.filter(pc.equal(table["shard"], shard))
            rows, first = np.unique(part["row"].to_numpy(), return_index=True)
            fresh = missing[rows]
            missing[rows] = False
            parts = self._parts.setdefault(shard, [])
            parts.append(part.take(first[fresh]))
            if not missing.any():
                del self._parts[shard], self._missing[shard]
                yield shard, pa.concat_tables(parts).sort_by("row")


class _ScoringActor:
    """The thin part that speaks Ray: fetches what all actors of a node share and wraps a `Scorer`."""

    def __init__(self, shared: list[Any], options: Mapping[str, Any]) -> None:
        network, bank = ray.get(shared)
        self._scorer = Scorer(network, bank, **options)

    def __call__(self, batches: pa.Table) -> pa.Table:
        return self._scorer(batches)


def score_pool(
    workspace: Workspace,
    prefix: str,
    shards: Sequence[Shard],
    network: Network,
    bank: sisom.FeatureBank,
    config: Config,
    cluster: Cluster,
    voice: Voice,
) -> Account:
    """Score every listed shard that has no score file yet below `prefix`, and account for all of them.

    Raises:
        AccountError: shards were still unfinished after bounded attempts, or ids do not add up.
        QuarantineOverflow: more than `scoring.max_quarantined` of the rows are broken.
    """
    began = time.perf_counter()
    worked = 0
    todo = _unfinished(workspace, prefix, shards)
    if todo:
        # Owned by the driver, so that they outlive any worker.
        shared = [ray.put(network), ray.put(bank.to_arrays())]
        with voice.counting("scoring", sum(shard.rows for shard in todo)) as counter:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    worked += _run(workspace, prefix, todo, shared, config, cluster, counter)
                except (ray.exceptions.RayError, StoreUnavailable) as error:
                    if attempt == ATTEMPTS:
                        raise
                    voice.say(f"    scoring stopped ({_first_line(error)}); going on with what is left")
                todo = _unfinished(workspace, prefix, todo)
                if not todo:
                    break
    if todo:
        places = ", ".join(f"{shard.uri}#{shard.row_group}" for shard in todo[:5])
        raise AccountError(f"{len(todo)} of {len(shards)} shards are not finished: {places}")
    seconds = time.perf_counter() - began
    scored, quarantined = account(workspace, prefix, shards, config)
    return Account(sum(shard.rows for shard in shards), scored, quarantined, worked, seconds)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _unfinished(workspace: Workspace, prefix: str, shards: Sequence[Shard]) -> list[Shard]:
    done = set(workspace.keys(f"{prefix}scores/"))
    return [shard for shard in shards if score_key(prefix, shard.shard) not in done]


def _run(
    workspace: Workspace,
    prefix: str,
    todo: Sequence[Shard],
    shared: list[Any],
    config: Config,
    cluster: Cluster,
    counter: Counter,
) -> int:
    """One Data job over the unfinished shards; gives the number of rows that came out of it."""
    empty = [shard for shard in todo if shard.rows == 0]
    full = [shard for shard in todo if shard.rows > 0]
    for shard in empty:
        write_shard(workspace, prefix, shard.shard, SCORED.empty_table())
    if not full:
        return 0
    model, scoring = config.model, config.scoring
    read = ReadShards(config.pool, config.storage, model.image_size, scoring.max_pixels, scoring.batch_size)
    options = {
        "taxonomy": config.taxonomy,
        "score": scoring.score,
        "batch_size": scoring.batch_size,
        "device": cluster.device,
        "threads": config.resources.threads,
    }
    batches = ray.data.from_arrow([snapshot_table([shard]) for shard in full]).map_batches(
        read, batch_size=None, batch_format="pyarrow", num_cpus=cluster.task_cpus
    )
    scored = batches.map_batches(
        _ScoringActor,
        fn_constructor_args=(shared, options),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=cluster.actor_cpus,
        num_gpus=cluster.actor_gpus or None,
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=cluster.max_actors, initial_size=cluster.max_actors
        ),
    )
    assembler = ShardAssembler(full)
    rows = 0
    writes: deque[Future[None]] = deque()
    with ThreadPoolExecutor(4, thread_name_prefix="score-files") as pool:
        tables: Iterable[Any] = scored.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=1
        )
        for table in tables:
            rows += table.num_rows
            counter.add(table.num_rows, table.num_rows - table["reason"].null_count)
            for shard_number, whole in assembler.add(table):
                writes.append(pool.submit(write_shard, workspace, prefix, shard_number, whole))
            while len(writes) > 64:  # storage is slower than scoring: let it catch up
                writes.popleft().result()
        for write in writes:
            write.result()
    return rows
