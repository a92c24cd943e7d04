"""A pool's scores at a glance: the same for any order and any cutting, against NumPy over all rows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sisom.metrics
from pipeline.report.histogram import BINS, Groups, ScoreSummary, add, count_rows, summary
from pipeline.types import SCORES

Row = tuple[str, float, bool]


def table(rows: Sequence[Row]) -> pa.Table:
    ids, scores, marked = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "sisome": pa.array(np.asarray(scores, np.float32)),
            "is_ood": pa.array(marked, pa.bool_()),
        }
    )


def summarized(
    parts: Sequence[pa.Table],
    labeled: Sequence[str] = (),
    kinds: dict[str, int] | None = None,
    *,
    group: int = 3,
) -> ScoreSummary:
    """Each part as a file of its own, cut into row groups."""
    truths = None
    if kinds is not None:
        truths = pa.table(
            {"id": pa.array(kinds, pa.string()), "kind": pa.array(list(kinds.values()), pa.int8())}
        )
    told = Groups(pa.array(labeled, pa.string()), truths)
    files = [[], *([part.slice(start, group) for start in range(0, part.num_rows, group)] for part in parts)]
    return summary(add([count_rows(file, "sisome", told) for file in files]))


def normal(n: int, *, at: float = 0.0, spread: float = 1.0) -> list[Row]:
    rng = np.random.default_rng(7)
    return [(f"i{i}", at + spread * float(rng.normal()), i % 10 == 0) for i in range(n)]


def test_the_schema_is_the_one_of_score_files() -> None:
    assert table([("a", 0.0, True)]).schema == pa.schema(
        [SCORES.field(n) for n in ("id", "sisome", "is_ood")]
    )


@pytest.mark.parametrize(("at", "spread"), [(0.0, 1.0), (-12.0, 0.3), (1.0, 0.02), (1e6, 300.0)])
def test_the_histogram_is_the_one_of_the_scores_themselves(at: float, spread: float) -> None:
    rows = normal(20_000, at=at, spread=spread)
    found = summarized([table(rows)], group=3000)
    scores = np.asarray([score for _, score, _ in rows], np.float32).astype(np.float64)
    low, high = np.quantile(scores, [0.001, 0.999], method="inverted_cdf")
    finest = max(abs(low), abs(high)) * 2**-12
    assert found.edges[0] == pytest.approx(low, abs=finest)
    assert found.edges[-1] == pytest.approx(high, abs=finest)
    assert len(found.edges) == BINS + 1
    want = np.histogram(np.clip(scores, found.edges[0], found.edges[-1]), found.edges)[0]
    assert sum(found.counts["pool"]) == len(rows)
    # A place is put in one bar as a whole: what lies within one of an edge may stand beside it.
    width = (found.edges[1] - found.edges[0]) / finest
    assert np.abs(np.asarray(found.counts["pool"]) - want).max() <= 2 * want.max() / width + 1


def test_labeled_rows_are_left_out_but_marked_ones_are_counted_all() -> None:
    rows = [("a", 1.0, True), ("b", 2.0, False), ("c", 3.0, True)]
    found = summarized([table(rows)], labeled=["a", "b", "elsewhere"])
    assert found.is_ood == 2
    assert sum(found.counts["pool"]) == 1
    assert found.edges[0] == pytest.approx(3.0, rel=1e-3)


@pytest.mark.parametrize("parts", [[], [table([])], [table([]), table([])]])
@pytest.mark.parametrize("kinds", [None, {"a": 1}])
def test_nothing_scored_is_an_empty_summary(parts: list[pa.Table], kinds: dict[str, int] | None) -> None:
    found = summarized(parts, kinds=kinds)
    assert found == ScoreSummary(tuple(np.linspace(0, 1, BINS + 1).tolist()), {}, None, None, 0)


@pytest.mark.parametrize("score", [5.0, 0.0, -1e30])
def test_one_score_alone_has_edges_that_rise(score: float) -> None:
    found = summarized([table([("a", score, False), ("b", score, False)])])
    assert all(a < b for a, b in zip(found.edges, found.edges[1:], strict=False))
    assert sum(found.counts["pool"]) == 2


def test_truth_separates_kinds_and_judges_exactly() -> None:
    # Apart by the last bit of a float32, as a coarse scale could not tell them.
    one, next_one = 1.0, float(np.nextafter(np.float32(1), np.float32(2)))
    rows = [
        ("k1", one, False),
        ("k2", one, False),
        ("u", next_one, True),
        ("f", next_one, True),
        ("x", 9.0, False),
    ]
    found = summarized([table(rows)], kinds={"k1": 1, "k2": 1, "u": 2, "f": 3, "not in the pool": 3})
    assert {name: sum(counts) for name, counts in found.counts.items()} == {
        "pool": 1,
        "known": 2,
        "unknown": 1,
        "far": 1,
    }
    assert (found.ood_auroc, found.ood_fpr95) == (1.0, 0.0)
    assert summarized([table(rows)], kinds={"k1": 1}).ood_auroc is None


scores = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e30, -1e30, 1e-40]) | st.floats(-5, 5, width=32)
rows_strategy = st.lists(
    st.tuples(st.integers(0, 999), scores, st.booleans(), st.integers(0, 3)),
    max_size=30,
    unique_by=lambda r: r[0],
)


@settings(max_examples=100)
@given(rows=rows_strategy, cuts=st.integers(1, 5), seed=st.integers(0, 3), simulated=st.booleans())
def test_order_and_cutting_change_nothing(rows: list[Any], cuts: int, seed: int, simulated: bool) -> None:
    kinds = {f"i{n}": kind for n, _, _, kind in rows} if simulated else None
    plain = [(f"i{n}", score, marked) for n, score, marked, _ in rows]
    labeled = [name for name, *_ in plain[::4]]
    whole = summarized([table(plain)], labeled, kinds)
    mixed = plain.copy()
    random.Random(seed).shuffle(mixed)
    assert summarized([table(mixed[i::cuts]) for i in range(cuts)], labeled, kinds) == whole
    assert whole.is_ood == sum(marked for _, _, marked in plain)

    fresh = [row for row in rows if f"i{row[0]}" not in labeled]
    assert sum(map(sum, whole.counts.values())) == len(fresh)
    known = torch.tensor([s for _, s, _, kind in fresh if kind == 1], dtype=torch.float32)
    unknown = torch.tensor([s for _, s, _, kind in fresh if kind >= 2], dtype=torch.float32)
    if simulated and len(known) and len(unknown):
        assert whole.ood_auroc == sisom.metrics.auroc(known, unknown)
        assert whole.ood_fpr95 == sisom.metrics.fpr_at_tpr(known, unknown)
    else:
        assert whole.ood_auroc is whole.ood_fpr95 is None
