"""From score files to a query: the rows decide, not their order, their files or their number."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sisom
from pipeline.ask.selection import (
    CANDIDATES,
    COLUMNS,
    SPREAD,
    QueryRules,
    candidates,
    informative_budget,
    merge,
    novel_budget,
    novel_places,
    priorities,
    query,
    with_informative,
)
from pipeline.config.choices import QueryPlan
from pipeline.errors import PoolError
from pipeline.types import QUERY, SCORES
from tests.support.judging import judged_by

Row = dict[str, Any]


def row(name: str, score: float = 0.0, *, ood: bool = False, **scores: float) -> Row:
    values = dict.fromkeys(("inner", "outer", "ratio", "energy", "sisom", "sisome"), score) | scores
    return {"id": name, "uri": f"u/{name}", "shard": 0, "predicted": "cat", "is_ood": ood} | values


def table(rows: Sequence[Row]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCORES)


def select(
    tables: Sequence[pa.Table],
    answered: frozenset[str],
    wanted: QueryPlan,
    *,
    seed: int,
    far_from: float | None = None,
    groups: Mapping[str, int] | None = None,
) -> pa.Table:
    """What a round does with these files, in row groups of five and without a cluster."""
    known = pa.array(sorted(answered), pa.string())
    parts = [[t.select(COLUMNS).slice(at, 5) for at in range(0, t.num_rows, 5)] for t in tables]
    found = [candidates(part, known, QueryRules(wanted, far_from, seed)) for part in parts]
    return query(merge([CANDIDATES.empty_table(), *found], wanted), wanted, far_from, groups=groups)


def plan(size: int, strategy: str = "sisome", ood_share: float = 0.1) -> QueryPlan:
    return QueryPlan(size=size, strategy=strategy, ood_share=ood_share)


def scores_of(rows: Sequence[Row]) -> sisom.Scores:
    return sisom.Scores(torch.zeros(len(rows), dtype=torch.int64), *(torch.zeros(len(rows)),) * 6)


def chosen(
    rows: Sequence[Row], wanted: QueryPlan, answered: frozenset[str] = frozenset(), *, seed: int = 0
) -> list[str]:
    found: list[str] = select([table(rows)], answered, wanted, seed=seed)["id"].to_pylist()
    return found


POOL = [row(f"i{n:02d}", float(n)) for n in range(20)] + [row(f"o{n}", 100.0 + n, ood=True) for n in range(5)]


def test_a_query_is_the_highest_scores_and_a_share_of_the_strangest() -> None:
    query = select([table(POOL)], frozenset(), plan(10), seed=0)
    assert query.schema == QUERY
    want = [f"i{n}" for n in range(19, 10, -1)]  # nine of ten; the tenth goes to the strangest
    assert query["id"].to_pylist() == [*want, "o4"]
    assert query["rank"].to_pylist() == list(range(10))
    assert query["score"].to_pylist() == [*[float(n) for n in range(19, 10, -1)], 104.0]
    assert query["uri"].to_pylist() == [f"u/{name}" for name in [*want, "o4"]]
    assert set(query["predicted"].to_pylist()) == {"cat"}
    reasons = query["reason"].to_pylist()
    assert set(reasons[:-1]) == {"informative: high sisome"}
    assert reasons[-1] == "strange: marked out of distribution"


@pytest.mark.parametrize(
    ("size", "share", "usual", "odd"),
    [
        (10, 0.0, 10, 0),
        (10, 0.1, 9, 1),
        (10, 0.24, 8, 2),  # 2.4 is two
        (10, 0.25, 7, 3),  # 2.5 is three: a half goes to the strange
        (4, 0.1, 4, 0),  # 0.4 is none
        (5, 0.1, 4, 1),  # 0.5 is one
        (5, 1.0, 0, 5),
        (8, 1.0, 3, 5),  # there are five strange ones: the others fill up
        (25, 0.0, 20, 0),  # and never the reverse
        (25, 0.1, 20, 3),
        (25, 1.0, 20, 5),
        (1, 0.0, 1, 0),
    ],
)
def test_how_the_budget_is_divided(size: int, share: float, usual: int, odd: int) -> None:
    found = chosen(POOL, plan(size, ood_share=share))
    assert found == [f"i{n:02d}" for n in range(19, 19 - usual, -1)] + [
        f"o{n}" for n in range(4, 4 - odd, -1)
    ]


def test_ties_go_to_the_smaller_id_in_both_kinds() -> None:
    rows = [row(name, 1.0) for name in "dbca"] + [row(name, 1.0, ood=True) for name in "zyx"]
    assert chosen(rows, plan(4, ood_share=0.5)) == ["a", "b", "x", "y"]


def test_who_is_answered_is_never_asked_again() -> None:
    answered = frozenset({"i19", "i17", "o4"})
    assert chosen(POOL, plan(4, ood_share=0.25), answered) == ["i18", "i16", "i15", "o3"]
    everyone = frozenset(r["id"] for r in POOL)
    query = select([table(POOL)], everyone, plan(4), seed=0)
    assert query.num_rows == 0
    assert query.schema == QUERY


def test_no_tables_and_empty_tables_are_an_empty_query() -> None:
    assert select([], frozenset(), plan(4), seed=0).num_rows == 0
    assert select([table([]), table([])], frozenset(), plan(4), seed=0).num_rows == 0


@pytest.mark.parametrize("strategy", ["sisome", "sisom", "energy"])
def test_a_strategy_looks_at_its_own_score(strategy: str) -> None:
    rows = [row("a", sisome=3.0), row("b", sisom=3.0), row("c", energy=3.0), row("d", inner=9.0, outer=9.0)]
    want = {"sisome": "a", "sisom": "b", "energy": "c"}[strategy]
    query = select([table(rows)], frozenset(), plan(1, strategy, 0.0), seed=0)
    assert query["id"].to_pylist() == [want]
    assert query["score"].to_pylist() == [3.0]
    assert query["reason"].to_pylist() == [f"informative: high {strategy}"]


def test_the_strange_are_ranked_by_sisome_whatever_the_strategy() -> None:
    rows = [row("a", ood=True, sisome=1.0, energy=9.0), row("b", ood=True, sisome=2.0, energy=0.0)]
    for strategy in ("sisome", "sisom", "energy", "random"):
        assert chosen(rows, plan(1, strategy, 1.0)) == ["b"]


def test_random_depends_on_ids_and_seed_and_not_on_scores() -> None:
    rows = [row(f"i{n}", float(n)) for n in range(100)]
    other = [row(f"i{n}", float(-n)) for n in range(100)]
    first = chosen(rows, plan(10, "random", 0.0), seed=1)
    assert first == chosen(other, plan(10, "random", 0.0), seed=1)
    assert first != chosen(rows, plan(10, "random", 0.0), seed=2)
    assert len(set(first)) == 10
    reasons = select([table(rows)], frozenset(), plan(3, "random", 0.0), seed=0)["reason"]
    assert set(reasons.to_pylist()) == {"random"}


def test_random_gives_every_row_the_same_chance() -> None:
    rows = [row(f"i{n}") for n in range(10)]
    hits = [chosen(rows, plan(1, "random", 0.0), seed=seed)[0] for seed in range(1000)]
    # 100 each in the mean with a deviation of 9.5: five of them on either side.
    assert all(52 < hits.count(f"i{n}") < 148 for n in range(10))


def test_an_id_twice_in_the_query_is_refused_before_anybody_answers() -> None:
    twice = [row("a", 5.0), row("b", 4.0)], [row("a", 3.0) | {"uri": "u/other"}]
    with pytest.raises(PoolError, match="id 'a' stands more than once in the pool: in u/a and u/other"):
        select([table(rows) for rows in twice], frozenset(), plan(3), seed=0)
    assert select([table(rows) for rows in twice], frozenset(), plan(1, ood_share=0.0), seed=0).num_rows == 1


def test_which_of_two_places_an_id_is_at_does_not_depend_on_their_order() -> None:
    twice = [row("a", 5.0), row("a", 5.0) | {"uri": "u/0"}, row("b", 1.0)]
    for rows in (twice, twice[::-1]):
        assert select([table(rows)], frozenset(), plan(1, ood_share=0.0), seed=0)["uri"].to_pylist() == [
            "u/0"
        ]


def test_no_budget_is_no_candidate() -> None:
    none = plan(1).model_copy(update={"size": 0})
    assert select([table(POOL)], frozenset(), none, seed=0).num_rows == 0


def test_candidates_are_no_more_than_a_query_needs() -> None:
    rows = [table(POOL).select(COLUMNS)] * 50
    wanted = plan(4, ood_share=0.5)
    found = candidates(rows, pa.array([], pa.string()), QueryRules(wanted, None, 0))
    assert found.schema == CANDIDATES
    assert found.num_rows == 4 + 2 * SPREAD
    assert merge([found, found], wanted).num_rows == 4 + 2 * SPREAD


rows_strategy = st.lists(
    st.builds(
        # As a table holds it: 0.1 and its float32 are one score, so their order is that of the ids.
        lambda number, score, ood: row(f"i{number}", float(np.float32(score)), ood=ood),
        st.integers(0, 10_000),
        st.sampled_from([0.0, -0.0, -1.0, 1.0, 0.1, 1e30, -1e30]) | st.floats(-5, 5, width=32),
        st.booleans(),
    ),
    max_size=40,
    unique_by=lambda r: r["id"],
)


@settings(max_examples=150)
@given(
    rows=rows_strategy,
    size=st.integers(1, 30),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    strategy=st.sampled_from(["sisome", "sisom", "energy", "random"]),
    cuts=st.integers(1, 6),
    seed=st.integers(0, 5),
)
def test_order_and_cutting_change_nothing(
    rows: list[Row], size: int, share: float, strategy: str, cuts: int, seed: int
) -> None:
    """Against a sort of the whole pool, for any order and any cutting of it."""
    answered = frozenset(r["id"] for r in rows[::5])
    wanted = plan(size, strategy, share)
    whole = select([table(rows)], answered, wanted, seed=seed)
    mixed = rows.copy()
    random.Random(seed).shuffle(mixed)
    parts = [table(mixed[i::cuts]) for i in range(cuts)]
    assert select(parts, answered, wanted, seed=seed).equals(whole)

    open_ = [r for r in rows if r["id"] not in answered]
    odd = sorted((r for r in open_ if r["is_ood"]), key=lambda r: (-r["sisome"], r["id"]))
    odd = odd[: int(size * share + 0.5)]
    assert whole["id"].to_pylist()[whole.num_rows - len(odd) :] == [r["id"] for r in odd]
    assert whole.num_rows == min(size, len([r for r in open_ if not r["is_ood"]]) + len(odd))
    draws = sisom.SELECTORS["random"]().priority([r["id"] for r in rows], scores_of(rows), seed=seed).tolist()
    drawn = {r["id"]: draw for r, draw in zip(rows, draws, strict=True)}
    first = {r["id"]: drawn[r["id"]] if strategy == "random" else r[strategy] for r in rows}
    usual = sorted((r for r in open_ if not r["is_ood"]), key=lambda r: (-first[r["id"]], r["id"]))
    usual = usual[: size - len(odd)]
    assert whole["id"].to_pylist()[: len(usual)] == [r["id"] for r in usual]
    assert whole["score"].to_pylist()[: len(usual)] == pytest.approx(
        [first[r["id"]] for r in usual], rel=1e-6
    )


# A pool of the open world: energies up to 9 are novel, from 10 on far; the most novel ones are all of group 0.
WORLD = (
    [row(f"i{n:02d}", float(n)) for n in range(30)]
    + [row(f"n{n}", 50.0 - n, ood=True, energy=9.0) for n in range(8)]
    + [row(f"x{n}", 90.0 + n, ood=True, energy=10.0) for n in range(4)]
)
GROUPS = {f"n{n}": 0 if n < 6 else n - 5 for n in range(8)}  # n0 to n5 look alike; n6 and n7 are of their own


def open_plan(size: int = 20, ood: float = 0.25, far: float = 0.05) -> QueryPlan:
    return QueryPlan(size=size, strategy="sisome", ood_share=ood, far_share=far)


def test_budgets_of_the_open_world_and_a_reason_for_each_row() -> None:
    found = select([table(WORLD)], frozenset(), open_plan(), seed=0, far_from=10.0, groups=GROUPS)
    assert found["id"].to_pylist()[15:] == [
        "n0",
        "n6",
        "n7",
        "n1",
        "x3",
    ]  # the first of each group, then the next
    reasons = found["reason"].to_pylist()
    assert set(reasons[:15]) == {"informative: high sisome"}
    assert reasons[15] == "novel: strange but near; 6 of the 8 strangest look alike"
    assert reasons[16] == "novel: strange but near; 1 of the 8 strangest look alike"
    assert reasons[19] == "far: strange, and like what was out of this world"


def test_the_same_budgets_without_a_filter_are_for_all_that_is_strange() -> None:
    found = select([table(WORLD)], frozenset(), open_plan(), seed=0)
    assert found["id"].to_pylist()[15:] == ["x3", "x2", "x1", "x0", "n0"]
    assert set(found["reason"].to_pylist()[15:]) == {"strange: marked out of distribution"}


def test_the_far_keep_to_their_share_and_are_not_replaced_by_each_other() -> None:
    few = [r for r in WORLD if not r["id"].startswith("n")]
    found = select([table(few)], frozenset(), open_plan(), seed=0, far_from=10.0)
    assert [name for name in found["id"].to_pylist() if name.startswith("x")] == ["x3"]
    assert found.num_rows == 20  # the informative fill up
    none = select([table(WORLD)], frozenset(), open_plan(far=0.0), seed=0, far_from=10.0, groups=GROUPS)
    assert not [name for name in none["id"].to_pylist() if name.startswith("x")]


def test_an_image_that_could_not_be_grouped_is_a_group_of_such() -> None:
    groups = {"n6": 1, "n7": 2}
    found = select([table(WORLD)], frozenset(), open_plan(), seed=0, far_from=10.0, groups=groups)
    assert found["id"].to_pylist()[15:19] == ["n0", "n6", "n7", "n1"]


def test_only_more_candidates_than_the_budget_are_worth_looking_at() -> None:
    known = pa.array([], pa.string())
    for plan_, far_from, want in (
        (open_plan(), 10.0, 8),
        (open_plan(ood=0.5), 10.0, 0),
        (open_plan(), None, 12),
    ):
        kept = candidates([table(WORLD).select(COLUMNS)], known, QueryRules(plan_, far_from, 0))
        places = novel_places(kept, plan_, far_from)
        assert places.num_rows == want
        assert places.column_names == ["id", "shard"]
    assert (novel_budget(open_plan(), 10.0), novel_budget(open_plan(), None)) == (4, 5)


def plan_of(name: str, **changes: Any) -> QueryPlan:
    return QueryPlan.model_validate({"size": 12, "strategy": name} | changes)


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


def test_strange_rows_go_by_the_detector_and_others_by_the_strategys_column() -> None:
    rows = [
        {
            "id": n,
            "uri": n,
            "shard": 0,
            "predicted": "cat",
            "is_ood": n in "xy",
            "strangeness": s,
            "priority": p,
        }
        | dict.fromkeys(("inner", "outer", "ratio", "energy", "sisom", "sisome"), 9.0)
        for n, s, p in (("a", 1.0, 5.0), ("b", 2.0, 4.0), ("x", 7.0, 0.0), ("y", 8.0, 0.0))
    ]
    schema = pa.schema([*SCORES, ("strangeness", pa.float32()), ("priority", pa.float64())])
    part = pa.Table.from_pylist(rows, schema=schema)
    assert priorities(part, "margin", 0).tolist() == [5.0, 4.0, 7.0, 8.0]
    assert priorities(part.drop_columns(["priority"]), "knn", 0).tolist() == [1.0, 2.0, 7.0, 8.0]
    assert priorities(part.select(COLUMNS), "sisome", 0).tolist() == [9.0] * 4
    plan = judged_by("knn", query={"size": 2, "strategy": "margin", "ood_share": 0.5}).query
    found = candidates([part], pa.array([], pa.string()), QueryRules(plan, None, 0))
    assert found.num_rows == 4
