"""Strategies that look at the pool's rows together: what scoring leaves for them, and that blocks change no pick."""

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
from pipeline.ask import whole_pool as pool_picks
from pipeline.ask.selection import CANDIDATES, informative_budget, query, scores_in, with_informative
from pipeline.ask.whole_pool import Question, pick, spread
from pipeline.cluster import joining as engine
from pipeline.cluster.layout import lay_out
from pipeline.config.choices import QueryPlan
from pipeline.config.project import Config
from pipeline.errors import ConfigError
from pipeline.images.decode import decode_batch
from pipeline.model.extractor import Extractor
from pipeline.score.account import clear_parts, clear_together
from pipeline.score.feature_rows import pack, unpack
from pipeline.score.job import score_pool
from pipeline.store.opening import LocalStore
from pipeline.types import TOGETHER
from pipeline.voice import Voice
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.keys import together_key
from sisom.network.models import build_model, save_weights
from sisom.selectors.blocks import GreedySelector
from sisom.selectors.committee import dropout_votes
from tests.support.scoring_lab import Lab, config_of, image, small_pool

TOGETHER_NAMES = sorted(name for name in sisom.SELECTORS if name not in sisom.ROW_SELECTORS)
GREEDY = [n for n in TOGETHER_NAMES if isinstance(sisom.build_selector(n), GreedySelector)]
DIMS = (("layer2", 5), ("avgpool", 8))
CLASSES = 3
NAMES = ("owl", "ant", "cow")  # of which the first in the pool is not the first of all
ROWS, SHARDS = 120, 5


def random_features(rows: int, seed: int) -> sisom.Features:
    rng = torch.Generator().manual_seed(seed)
    head = torch.randn(CLASSES, 8, generator=torch.Generator().manual_seed(99))
    h = torch.rand(rows, 8, generator=rng)
    return sisom.Features(torch.randn(rows, 13, generator=rng), DIMS, h, h @ head.T)


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


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    kept = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(kept)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.build(tmp_path_factory.mktemp("lab"))


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
    monkeypatch.setattr(pool_picks, "FEW", 10)
    cluster = engine.start(config_of("unused"))
    assert pick(asked, range(SHARDS), cluster, count=12, rows=ROWS)["id"].to_pylist() == want


@pytest.mark.ray
def test_blocks_without_rows_and_more_picks_than_rows(started: None, tmp_path: Path) -> None:
    asked, table, _ = question("coreset", tmp_path)
    few = table["id"].to_pylist()[:2]  # of shards 0 and 1
    left = replace(asked, answered=frozenset(table["id"].to_pylist()) - set(few))
    assert {row["id"] for row in spread(left, range(SHARDS), 12, workers=SHARDS)} == set(few)


@pytest.mark.parametrize("deep", [False, True])
def test_features_come_back_from_bytes(deep: bool) -> None:
    features = random_features(7, 3)
    again = unpack(pack(features, deep=deep), features, deep=deep)
    assert torch.equal(again.logits, features.logits)
    assert torch.equal(again.penultimate, features.penultimate)
    assert again.saliency.shape[1] == (13 if deep else 0)
    if deep:
        assert torch.equal(again.saliency, features.saliency)
        assert again.layer_dims == DIMS
    assert len(unpack([], features, deep=deep)) == 0


def test_what_is_left_of_the_query_is_filled_with_the_picks() -> None:
    def rows(kind: str, count: int) -> list[dict[str, Any]]:
        return [
            {
                "kind": kind,
                "id": f"{kind}{n}",
                "uri": "u",
                "shard": 0,
                "predicted": "cat",
                "priority": float(n),
            }
            for n in range(count)
        ]

    plan = plan_of("coreset", size=10, ood_share=0.3, far_share=0.1)
    kept = pa.Table.from_pylist(rows("informative", 9) + rows("novel", 1) + rows("far", 5), schema=CANDIDATES)
    assert informative_budget(kept, plan, None) == 9, "nothing tells novel from far yet"
    assert informative_budget(kept, plan, 2.0) == 8
    picks = pa.Table.from_pylist(
        [row | {"id": f"p{row['id']}"} for row in rows("informative", 8)], schema=CANDIDATES
    )
    found = query(with_informative(kept, picks), plan, 2.0).to_pylist()
    assert [row["id"] for row in found[:8]] == [f"pinformative{n}" for n in range(7, -1, -1)]
    assert [row["reason"] for row in found[:8]] == ["informative: picked by coreset"] * 8
    assert [row["id"] for row in found[8:]] == ["novel0", "far4"]


@pytest.mark.ray
def test_scoring_leaves_what_the_strategy_needs_and_no_more(started: None, lab: Lab, tmp_path: Path) -> None:
    """Features of the rows in distribution beside the scores, or the votes' disagreement as each row's priority."""
    pool = small_pool(tmp_path / "pool", rows=90)
    pixels = decode_batch([image(n) for n in range(90)], config_of("unused").model.transform(10**6)).pixels
    features = Extractor(lab.network, "cpu", 16)(pixels)
    tables = {}
    for name in ("bald", "coreset"):
        job = lab.job(config_of(pool, query={"strategy": name}), tmp_path / name)
        score_pool(job, Voice())
        clear_parts(Folder(job.folder.workspace))
        tables[name] = pa.concat_tables(job.folder.workspace.tables("scores/")).sort_by("id")
        together = list(job.folder.workspace.tables("together/"))
        if name == "bald":
            assert not together
    bald, scored = tables["bald"], tables["coreset"]
    assert scored.column_names == bald.column_names[:-1]
    votes = dropout_votes(
        sisom.Head.of(lab.network.build("cpu")), features.penultimate, members=10, dropout=0.5, seed=0
    )
    ids = [f"i{n:04d}" for n in range(90)]
    by_hand = sisom.ROW_SELECTORS["bald"]().priority_of(sisom.Candidates(ids, committee=votes), seed=0)
    assert bald["priority"].to_numpy().tobytes() == by_hand.numpy().tobytes()
    assert float(by_hand.max()) > 0

    kept = pa.concat_tables(together).sort_by("id")
    usual = [row for row, strange in enumerate(scored["is_ood"].to_pylist()) if not strange]
    assert 0 < len(usual) < 90
    assert kept["id"].to_pylist() == [ids[row] for row in usual]
    again = unpack(kept["features"].to_pylist(), features, deep=False)
    assert torch.equal(again.penultimate, features.penultimate[usual])
    assert torch.equal(again.logits, features.logits[usual])
    clear_together(Folder(job.folder.workspace))
    assert not list(job.folder.workspace.keys("together/"))


@pytest.mark.ray
def test_networks_of_other_seeds_vote(started: None, lab: Lab, tmp_path: Path) -> None:
    """As each row's priority, which a strategy that levels the classes finds beside the scores."""
    pool = small_pool(tmp_path / "pool", rows=40)
    pixels = decode_batch([image(n) for n in range(40)], config_of("unused").model.transform(10**6)).pixels
    others = []
    for seed in (1, 2):
        weights = save_weights(build_model(lab.network.model.name, CLASSES, seed=seed))
        others.append(replace(lab.network, weights=np.frombuffer(weights, np.uint8)))
    features = Extractor(lab.network, "cpu", 16)(pixels)
    logits = [features.logits, *(Extractor(other, "cpu", 16)(pixels).logits for other in others)]
    votes = torch.stack([torch.softmax(each, dim=1) for each in logits])
    plan = {"strategy": "qbc-kl", "committee": {"members": 3}}
    job = lab.job(config_of(pool, query=plan), tmp_path / "rows", members=others)
    assert job.config.query.networks == 3
    score_pool(job, Voice())
    clear_parts(Folder(job.folder.workspace))
    found = pa.concat_tables(job.folder.workspace.tables("scores/")).sort_by("id")
    mean = votes.double().mean(dim=0)
    by_hand = (votes.double() * (votes.double() / mean).log()).sum(dim=2).mean(dim=0)
    assert found["priority"].to_pylist() == pytest.approx(by_hand.tolist(), abs=1e-6)
    assert float(by_hand.min()) > 1e-4

    balanced = {"strategy": "class-balanced", "options": {"of": "qbc-vote"}, "committee": {"members": 3}}
    job = lab.job(config_of(pool, query=balanced), tmp_path / "together", members=others)
    score_pool(job, Voice())
    kept = pa.concat_tables(job.folder.workspace.tables("together/"))
    places = [int(name[1:]) for name in kept["id"].to_pylist()]
    assert places
    assert kept["features"].null_count == kept.num_rows, "nobody looks at them again"
    shares = torch.stack([(votes.argmax(dim=2) == c).double().mean(dim=0) for c in range(CLASSES)])
    entropy = torch.special.entr(shares).sum(dim=0)[places]
    assert kept["priority"].to_pylist() == pytest.approx(entropy.tolist(), abs=1e-9)
    assert len(set(kept["priority"].to_pylist())) > 1


def test_a_pool_that_no_memory_holds_is_refused_before_training() -> None:
    cluster = replace(
        lay_out(Config.model_fields["resources"].default, [{"CPU": 4, "memory": 2**30}]), nodes=3
    )
    for name, nodes in (("coreset", 3), ("typiclust", 1)):
        config = config_of("unused", query={"strategy": name})
        pool_picks.check_memory(config, cluster, rows=1000)
        with pytest.raises(ConfigError, match=rf"{name} looks at the whole pool .* {nodes}\.0 GiB are there"):
            pool_picks.check_memory(config, cluster, rows=10_000_000)
    pool_picks.check_memory(config_of("unused", query={"strategy": "margin"}), cluster, rows=10**9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "typiclust", "options": {"mots": 3}}, "no option 'mots'; the nearest is 'most'"),
        ({"strategy": "margin", "options": {"k": 3}}, "selector 'margin' has no option"),
        ({"strategy": "class-balanced", "options": {"of": "nothing"}}, "unknown ranking 'nothing'"),
        ({"strategy": "class-balanced", "options": {"of": 3}}, "unknown ranking '3'"),
        ({"strategy": "typiclust", "options": {"most": "x"}}, "most must be of type int, got 'x'"),
        ({"strategy": "information-density", "options": {"beta": True}}, "beta must be of type float"),
        ({"strategy": "knn", "options": {"k": 3}}, "its options are scoring.options"),
        ({"strategy": "coreste"}, "did you mean coreset"),
    ],
)
def test_what_a_query_may_not_ask_for(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_of(**{"name": changes["strategy"]} | {k: v for k, v in changes.items() if k != "strategy"})
