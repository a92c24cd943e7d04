"""Shards put together again from scored rows that come in any order, and some of them twice."""

from __future__ import annotations

import random

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.score.assembler import ShardAssembler
from pipeline.types import SCORED


def scored(*places: tuple[int, int]) -> pa.Table:
    """Rows by (shard, row); what they say follows from their place alone, as it does in scoring."""
    columns = {name: [None] * len(places) for name in SCORED.names}
    columns |= {
        "shard": [s for s, _ in places],
        "row": [r for _, r in places],
        "id": [f"{s}-{r}" for s, r in places],
        "reason": ["broken" if r % 3 == 2 else None for _, r in places],
    }  # fmt: skip
    return pa.table(columns, schema=SCORED)


def whole(assembler: ShardAssembler, table: pa.Table) -> list[tuple[int, list[str]]]:
    return [(number, rows["id"].to_pylist()) for number, rows in assembler.add(table)]


def test_a_shard_comes_back_when_its_last_row_came() -> None:
    assembler = ShardAssembler({0: 3})
    assert whole(assembler, scored((0, 2))) == []
    assert whole(assembler, scored((0, 0))) == []
    assert whole(assembler, scored((0, 1))) == [(0, ["0-0", "0-1", "0-2"])]


def test_shards_may_come_mixed_in_one_table() -> None:
    assembler = ShardAssembler({7: 2, 3: 1})
    assert whole(assembler, scored((7, 1), (3, 0))) == [(3, ["3-0"])]
    assert whole(assembler, scored((7, 0))) == [(7, ["7-0", "7-1"])]


def test_rows_that_come_again_count_once() -> None:
    assembler = ShardAssembler({0: 4})
    assert whole(assembler, scored((0, 0), (0, 1))) == []
    assert whole(assembler, scored((0, 0), (0, 1))) == []  # the same batch from another worker
    assert whole(assembler, scored((0, 1), (0, 2), (0, 2))) == []  # half new, and twice in one table
    assert whole(assembler, scored((0, 2), (0, 3))) == [(0, ["0-0", "0-1", "0-2", "0-3"])]
    assert whole(assembler, scored((0, 0), (0, 3))) == []  # after it was given back


def test_an_empty_table_is_nothing() -> None:
    assert whole(ShardAssembler({0: 1}), SCORED.empty_table()) == []


@settings(max_examples=150)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    seed=st.integers(0, 10_000),
    again=st.floats(0, 1),
)
def test_each_shard_comes_back_once_whole_and_in_order(sizes: list[int], seed: int, again: float) -> None:
    chance = random.Random(seed)
    places = [(number, row) for number, size in enumerate(sizes) for row in range(size)]
    sent = places + [place for place in places if chance.random() < again]
    chance.shuffle(sent)
    assembler = ShardAssembler(dict(enumerate(sizes)))
    found: list[tuple[int, list[str]]] = []
    seen: set[tuple[int, int]] = set()
    while sent:
        batch = [sent.pop() for _ in range(min(len(sent), chance.randint(1, 5)))]
        seen |= set(batch)
        found += whole(assembler, scored(*batch))
        complete = {n for n, size in enumerate(sizes) if all((n, row) in seen for row in range(size))}
        assert {number for number, _ in found} == complete  # not a batch later, not one earlier
    assert sorted(found) == [(n, [f"{n}-{row}" for row in range(size)]) for n, size in enumerate(sizes)]
