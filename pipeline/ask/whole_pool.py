"""Picks of strategies that look at the pool's rows together.

Scoring leaves the rows in distribution beside the score files, with the features that the strategy needs. A greedy
strategy picks from blocks that stay on the actors which loaded them: for each pick every block offers its best row, the
driver chooses the best of them, and every block hears which was taken. Other strategies see all rows in one process.
Either way the picks are those of the serial selector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import torch

import sisom
from pipeline.ask.selection import CANDIDATES, scores_in
from pipeline.cluster.layout import Cluster
from pipeline.config.choices import QueryPlan
from pipeline.config.project import Config
from pipeline.errors import ConfigError
from pipeline.score.feature_rows import unpack
from pipeline.score.memory import measured
from pipeline.workspace import keys
from pipeline.workspace.folder import Folder
from sisom.selectors.base import RowSelector
from sisom.selectors.blocks import GreedySelector, Pick, winner

Place = dict[str, Any]
PLACE = ["id", "uri", "shard", "predicted"]
ATTEMPTS = 3  # workers may die; their rows lie in storage
FEW = 20_000  # rows that the driver looks at itself
ROW_BYTES = 500  # of a row, beside its features: its id, its place, its scores
COPIES = 3  # of the features, at the worst moment


@dataclass(frozen=True)
class Question:
    """A question to the pool, as workers need it beside the rows."""

    folder: Folder
    answered: frozenset[str]
    plan: QueryPlan
    head: sisom.Head
    taxonomy: tuple[str, ...]
    slopes: Mapping[str, float]
    labeled: sisom.Labeled
    seed: int
    threads: int

    def selector(self) -> Any:
        """Build the strategy.

        One that builds a bank of its own uses the slopes of the round's bank.
        """
        own = {"slopes": dict(self.slopes)} if self.plan.keeps == "deep" else {}
        return self.plan.selector(head=self.head, **own)

    def rows(self, shards: Iterable[int]) -> tuple[pa.Table, sisom.Candidates]:
        """Read the rows of shards that may be asked about.

        They come as a table and as candidates, in the order of their ids.
        """
        known = pa.array(sorted(self.answered), pa.string())

        def read(shard: int) -> pa.Table:
            part = self.folder.read_table(keys.together_key(shard))
            return part.filter(pc.invert(pc.is_in(part["id"], value_set=known)))

        with ThreadPoolExecutor(8, thread_name_prefix="rows") as threads:
            table = pa.concat_tables(threads.map(read, shards)).sort_by("id")
        features = None
        if self.plan.keeps is not None:
            assert self.labeled.features is not None
            deep = self.plan.keeps == "deep"
            features = unpack(table["features"].to_pylist(), self.labeled.features, deep=deep)
        table = table.drop_columns("features")
        numbers = pc.index_in(table["predicted"], value_set=pa.array(self.taxonomy, pa.string()))
        scores = replace(scores_in(table), predicted=torch.from_numpy(numbers.to_numpy().astype(np.int64)))
        return table, sisom.Candidates(table["id"].to_pylist(), scores, features)


def check_memory(config: Config, cluster: Cluster, *, rows: int) -> None:
    """Refuse a strategy that needs more memory than there is.

    The check comes before training, for strategies that hold the features of the pool.

    Raises:
        ConfigError: with the memory that it would take.
    """
    plan = config.query
    if not plan.together:
        return
    net = measured(config.model, len(config.taxonomy))
    width = {None: 0, "last": net.last, "deep": net.last + net.columns}[plan.keeps]
    needed = rows * (ROW_BYTES + 4 * width * COPIES)
    nodes = cluster.nodes if isinstance(plan.selector(), GreedySelector) else 1
    room = nodes * int(config.resources.memory or cluster.node_memory)
    if needed > room:
        raise ConfigError(
            f"query.strategy: {plan.strategy} looks at the whole pool together: {rows:,} images need "
            f"{needed / 2**30:.1f} GiB, and {room / 2**30:.1f} GiB are there; coreset and badge are spread over the "
            f"nodes of a cluster, and what ranks each row by itself needs no memory"
        )


def pick(question: Question, shards: Sequence[int], cluster: Cluster, *, count: int, rows: int) -> pa.Table:
    """Pick the rows that the strategy asks about.

    All rows, if there are fewer than `count`.

    Args:
        question: what is asked.
        shards: of the pool.
        cluster: where blocks are held.
        count: how many rows are wanted.
        rows: of the pool, of which few are looked at in this process.

    Returns:
        A `CANDIDATES` table of kind informative; the priority of a pick is how many come after it, plus one.
    """
    if rows <= FEW:  # not worth a worker's start
        kept = torch.get_num_threads()
        try:
            return _candidates(_at_once(question, shards, count))
        finally:
            torch.set_num_threads(kept)
    if isinstance(question.selector(), GreedySelector):
        return _candidates(spread(question, shards, count, workers=min(cluster.cpus, len(shards))))
    whole: Any = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(_at_once)
    return _candidates(ray.get(whole.remote(question, shards, count)))


def _at_once(question: Question, shards: Sequence[int], count: int) -> list[Place]:
    torch.set_num_threads(question.threads)
    table, pool = question.rows(shards)
    count = min(count, len(pool))
    selector = question.selector()
    if question.plan.ranking is not None:  # features and votes are gone; their priorities were kept
        told = dict(zip(pool.ids, table["priority"].to_pylist(), strict=True))
        selector = replace(selector, of=_Told(told))
    chosen = selector.select(pool, question.labeled, count, seed=question.seed)
    picks: list[Place] = table.select(PLACE).take(pa.array(chosen.tolist(), pa.int64())).to_pylist()
    return picks


@dataclass(frozen=True)
class _Told(RowSelector):
    """Priorities by id that a ranking computed during scoring."""

    priorities: Mapping[str, float]

    needs = frozenset({"scores"})

    def priority_of(self, pool: sisom.Candidates, *, seed: int) -> torch.Tensor:  # noqa: ARG002
        """Return float64 priorities; see `RowSelector`."""
        return torch.tensor([self.priorities[name] for name in pool.ids], dtype=torch.float64)


# ------------------------------------------------------------------------------------------------- in blocks


class _Rows:
    """Actor that holds some shards' rows as a block."""

    def __init__(self, question: Question, shards: Sequence[int]) -> None:
        torch.set_num_threads(question.threads)
        self._table, pool = question.rows(shards)
        selector = question.selector()
        self._block = selector.block(pool, question.labeled, seed=question.seed) if len(pool) else None

    def offer(self, center: Any = None) -> Pick | None:
        """Take note of what was picked, and offer the best row."""
        if self._block is None:
            return None
        if center is not None:
            self._block.add(center)
        best: Pick | None = self._block.farthest()
        return best

    def take(self, row: int) -> tuple[Any, Place]:
        """Take the row that was offered.

        Returns what the other blocks need of it, and where it is.
        """
        assert self._block is not None
        return self._block.take(row), self._table.select(PLACE).slice(row, 1).to_pylist()[0]


def spread(question: Question, shards: Sequence[int], count: int, *, workers: int) -> list[Place]:
    """Make a greedy strategy's picks with shards divided among actors.

    There are `workers` actors; the picks are the serial ones.

    Raises:
        ray.exceptions.RayActorError: workers died in each attempt.
    """
    for _ in range(ATTEMPTS - 1):
        with suppress(ray.exceptions.RayActorError):  # the rows lie in storage: begin again
            return _spread(question, shards, count, workers=workers)
    return _spread(question, shards, count, workers=workers)


def _spread(question: Question, shards: Sequence[int], count: int, *, workers: int) -> list[Place]:
    shared = ray.put(question)
    # They mostly hold rows: no CPU of their own, so that all of them are there whatever else runs.
    actor: Any = ray.remote(num_cpus=0, scheduling_strategy="SPREAD")(_Rows)
    blocks = [actor.remote(shared, list(shards[i::workers])) for i in range(workers)]
    offers: list[Pick | None] = ray.get([block.offer.remote() for block in blocks])
    picks: list[Any] = []
    while len(picks) < count and any(offers):
        place = winner(offers)
        best = offers[place]
        assert best is not None
        center, where = blocks[place].take.options(num_returns=2).remote(best.row)
        picks.append(where)
        offers = ray.get([block.offer.remote(center) for block in blocks])
    found: list[Place] = ray.get(picks)
    return found


def _candidates(picks: Sequence[Place]) -> pa.Table:
    rows = [
        {**pick, "kind": "informative", "priority": float(len(picks) - place)}
        for place, pick in enumerate(picks)
    ]
    return pa.Table.from_pylist(rows, schema=CANDIDATES)
