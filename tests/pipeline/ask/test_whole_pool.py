"""Strategies that look at the whole pool: blocks and workers change no pick."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch

import sisom
from pipeline.ask import whole_pool
from pipeline.ask.selection import CANDIDATES, scores_in
from pipeline.ask.whole_pool import Question, pick, spread
from pipeline.cluster import joining as engine
from pipeline.cluster.layout import lay_out
from pipeline.config.choices import QueryPlan
from pipeline.config.project import Config
from pipeline.errors import ConfigError
from pipeline.score.feature_rows import pack
from pipeline.store.opening import LocalStore
from pipeline.types import TOGETHER
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.keys import together_key
from sisom.selectors.blocks import GreedySelector
from tests.support.random_rows import CLASSES, random_features
from tests.support.scoring_lab import config_of

pytestmark = pytest.mark.usefixtures("one_thread")

TOGETHER_NAMES = sorted(name for name in sisom.SELECTORS if name not in sisom.ROW_SELECTORS)
GREEDY = [n for n in TOGETHER_NAMES if isinstance(sisom.build_selector(n), GreedySelector)]
NAMES = ("owl", "ant", "cow")  # of which the first in the pool is not the first of all
ROWS, SHARDS = 120, 5


def plan_of(name: str, **changes: Any) -> QueryPlan:
    return QueryPlan.model_validate({"size": 12, "strategy": name} | changes)


def votes_of(rows: int) -> torch.Tensor:
    """Of the ten members of a committee."""
    raw = torch.randn(10, rows, CLASSES, generator=torch.Generator().manual_seed(8))
    return torch.softmax(raw, dim=2)


def table_of(features: sisom.Features, plan: QueryPlan) -> pa.Table:
    """What scoring would leave of so many rows, in an order that is not that of the ids."""
    count = len(features)
    numbers = np.random.default_rng(5).permutation(count)
    scores = {name: np.random.default_rng(6).normal(size=count) for name in ("inner", "outer", "ratio")}
    scores |= {name: np.random.default_rng(7).normal(size=count) for name in ("energy", "sisom", "sisome")}
    predicted = [NAMES[c] for c in features.logits.argmax(dim=1).tolist()]
    blobs = [None] * count if plan.keeps is None else pack(features, deep=plan.keeps == "deep")
    wanted = [None] * count
    if plan.ranking is not None:
        rows = sisom.Candidates([str(n) for n in range(count)], None, features, votes_of(count))
        wanted = plan.ranking.priority_of(rows, seed=4).tolist()
    columns = {
        "id": [f"i{n:03d}" for n in numbers],
        "uri": [f"u{n}" for n in numbers],
        "shard": [row % SHARDS for row in range(count)],
        "predicted": predicted,
        **scores,
        "is_ood": [False] * count,
        "priority": wanted,
        "features": blobs,
    }
    return pa.table(columns).select(TOGETHER.names).cast(TOGETHER)


def question(name: str, folder: Path, **changes: Any) -> tuple[Question, pa.Table, sisom.Features]:
    """A pool of random rows in shards, of which every seventh is answered."""
    plan, features = plan_of(name, **changes), random_features(ROWS, 1)
    table = table_of(features, plan)
    workspace = Workspace(LocalStore(str(folder)))
    for shard in range(SHARDS):
        part = table.filter(pa.array([row % SHARDS == shard for row in range(ROWS)]))
        workspace.write_table("rounds/000/" + together_key(shard), part)
    answered = frozenset(table["id"].to_pylist()[::7])
    weight = torch.randn(CLASSES, 8, generator=torch.Generator().manual_seed(99)).double()
    targets = torch.tensor([0] * 20 + [1] * 6 + [2] * 4)  # so that a class taken for another one shows
    known = sisom.Labeled(random_features(30, 2), targets, CLASSES)
    asked = Question(
        Folder(workspace, "rounds/000/"),
        answered,
        plan,
        sisom.Head(weight, torch.zeros(CLASSES).double()),
        NAMES,
        {"layer2": 3.0, "avgpool": 7.0},
        known,
        4,
        1,
    )
    return asked, table, features


def serially(asked: Question, table: pa.Table, features: sisom.Features) -> list[str]:
    """The picks of the selector itself, from all rows at once."""
    ids = table["id"].to_pylist()
    free = [row for row, name in enumerate(ids) if name not in asked.answered]
    scores = replace(scores_in(table), predicted=features.logits.argmax(dim=1))
    pool = sisom.Candidates(
        [ids[row] for row in free], scores.select(free), features.select(free), votes_of(ROWS)[:, free]
    )
    return [
        pool.ids[row]
        for row in asked.selector().select(pool, asked.labeled, asked.plan.size, seed=asked.seed).tolist()
    ]


@pytest.fixture(scope="module")
def started() -> Iterator[None]:
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in TOGETHER_NAMES),
     *(("class-balanced", {"of": of}) for of in ("bald", "qbc-vote", "margin", "sisom"))],
)  # fmt: skip
def test_the_picks_are_those_of_the_selector_itself(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    asked, table, features = question(name, tmp_path, options=options)
    cluster: Any = None  # few rows are looked at in this process
    found = pick(asked, range(SHARDS), cluster, count=12, rows=ROWS)
    assert found.schema == CANDIDATES
    assert found["id"].to_pylist() == serially(asked, table, features)
    assert found["priority"].to_pylist() == [float(n) for n in range(12, 0, -1)]
    where = dict(zip(table["id"].to_pylist(), table["uri"].to_pylist(), strict=True))
    assert found["uri"].to_pylist() == [where[name] for name in found["id"].to_pylist()]
    assert not asked.answered & set(found["id"].to_pylist())
    free = ROWS - len(asked.answered)
    assert pick(asked, range(SHARDS), cluster, count=ROWS, rows=ROWS).num_rows == free, (
        "no more than there are"
    )


@pytest.mark.ray
@pytest.mark.parametrize("name", [*GREEDY, "typiclust"])
def test_workers_change_no_pick(
    name: str, started: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, table, features = question(name, tmp_path)
    want = serially(asked, table, features)
    for workers in (SHARDS,) if name in GREEDY else ():
        assert [row["id"] for row in spread(asked, range(SHARDS), 12, workers=workers)] == want
    monkeypatch.setattr(whole_pool, "FEW", 10)
    cluster = engine.start(config_of("unused"))
    assert pick(asked, range(SHARDS), cluster, count=12, rows=ROWS)["id"].to_pylist() == want


@pytest.mark.ray
def test_blocks_without_rows_and_more_picks_than_rows(started: None, tmp_path: Path) -> None:
    asked, table, _ = question("coreset", tmp_path)
    few = table["id"].to_pylist()[:2]  # of shards 0 and 1
    left = replace(asked, answered=frozenset(table["id"].to_pylist()) - set(few))
    assert {row["id"] for row in spread(left, range(SHARDS), 12, workers=SHARDS)} == set(few)


def test_a_pool_that_no_memory_holds_is_refused_before_training() -> None:
    cluster = replace(
        lay_out(Config.model_fields["resources"].default, [{"CPU": 4, "memory": 2**30}]), nodes=3
    )
    for name, nodes in (("coreset", 3), ("typiclust", 1)):
        config = config_of("unused", query={"strategy": name})
        whole_pool.check_memory(config, cluster, rows=1000)
        with pytest.raises(ConfigError, match=rf"{name} looks at the whole pool .* {nodes}\.0 GiB are there"):
            whole_pool.check_memory(config, cluster, rows=10_000_000)
    whole_pool.check_memory(config_of("unused", query={"strategy": "margin"}), cluster, rows=10**9)
