"""The scorer on tables: equal rows however they are grouped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sisom
from pipeline.model.extractor import Extractor
from pipeline.score.scorer import Scorer, ScoringOptions
from pipeline.types import SCORED
from tests.support.scorer_setup import BATCH, BROKEN, IMAGES, TAXONOMY, Setup, batches

pytestmark = pytest.mark.usefixtures("threads")

SCORES = ("inner", "outer", "ratio", "energy", "sisom", "sisome")


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=lambda row: row["id"])


def test_every_row_comes_out_scored_or_with_its_reason(setup: Setup) -> None:
    scorer = setup.scorer()
    found = pa.concat_tables([scorer(batch) for batch in setup.batches])
    assert found.schema == SCORED
    rows = rows_of(found)
    assert [row["id"] for row in rows] == [f"i{n:02d}" for n in range(21)]
    assert [(row["shard"], row["row"]) for row in rows] == [(n // 12, n % 12) for n in range(21)]
    for number, row in enumerate(rows):
        values = [row[name] for name in (*SCORES, "predicted", "is_ood")]
        if number in BROKEN:
            assert values == [None] * len(values)
            assert row["stage"] == "decode"
            data = BROKEN[number]
            assert row["reason"] == (f"not an image: starts with {data.hex(' ')}" if data else "no bytes")
        else:
            assert np.isfinite(values[:6]).all()
            assert row["predicted"] in TAXONOMY
            assert (row["stage"], row["reason"]) == (None, None)


def test_the_rows_are_equal_to_the_bit_in_any_order_and_any_grouping(setup: Setup) -> None:
    want = rows_of(pa.concat_tables([setup.scorer()(batch) for batch in setup.batches]))
    chance = np.random.default_rng(0)
    for size in (1, 2, 3, len(setup.batches)):
        mixed = [setup.batches[i] for i in chance.permutation(len(setup.batches))]
        scorer = setup.scorer()
        groups = [pa.concat_tables(mixed[i : i + size]) for i in range(0, len(mixed), size)]
        assert rows_of(pa.concat_tables([scorer(group) for group in groups])) == want
    combined = pa.concat_tables(setup.batches).combine_chunks()
    halves = [setup.scorer()(combined.slice(2)), setup.scorer()(combined.slice(0, 2))]  # views with offsets
    assert rows_of(pa.concat_tables(halves)) == want


def test_the_scores_are_the_librarys(setup: Setup) -> None:
    """By hand, for the first batch: decode nothing, extract the known pixels, score with the bank."""
    first = setup.batches[0]
    assert first["ids"].to_pylist() == [["i00", "i02", "i03"]]
    features = Extractor(setup.network, "cpu", BATCH)(IMAGES[[0, 2, 3]])
    want = sisom.score(setup.bank, features)
    table = setup.scorer()(first)
    for name in SCORES:
        assert table[name].to_pylist()[:3] == getattr(want, name).tolist()
    assert table["predicted"].to_pylist()[:3] == [TAXONOMY[i] for i in want.predicted]


@pytest.mark.parametrize("score", ["sisome", "sisom", "energy"])
def test_the_verdict_is_the_configured_score_above_the_threshold(setup: Setup, score: str) -> None:
    every = pa.concat_tables([setup.scorer()(batch) for batch in setup.batches])
    values = [value for value in every[score].to_pylist() if value is not None]
    limit = sorted(values)[len(values) // 2]
    judged = pa.concat_tables([setup.scorer(score, threshold=limit)(batch) for batch in setup.batches])
    scored = [row for row in judged.to_pylist() if row["reason"] is None]
    assert [row["is_ood"] for row in scored] == [row[score] > limit for row in scored]
    assert {row["is_ood"] for row in scored} == {True, False}


def test_without_a_threshold_nothing_is_strange(setup: Setup) -> None:
    table = setup.scorer(threshold=None)(setup.batches[0])
    assert set(table["is_ood"].to_pylist()) == {False, None}


def test_a_batch_without_a_readable_image_passes_through(setup: Setup, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    pq.write_table(pa.table({"id": ["a", "b"], "image": [b"", b"x"]}), tmp_path / "pool" / "p.parquet")
    (batch,) = batches(tmp_path / "pool", tmp_path / "workspace")
    assert setup.scorer()(batch).select(["id", "sisome", "reason"]).to_pylist() == [
        {"id": "a", "sisome": None, "reason": "no bytes"},
        {"id": "b", "sisome": None, "reason": "not an image: starts with 78"},
    ]


def test_no_batches_are_no_rows(setup: Setup) -> None:
    assert setup.scorer()(setup.batches[0].slice(0, 0)).equals(SCORED.empty_table())


@pytest.mark.parametrize("tiles", [1, 1 << 12, 1 << 20])
def test_memory_for_distances_changes_no_bit(setup: Setup, tiles: int) -> None:
    options = ScoringOptions(TAXONOMY, "sisome", BATCH, "cpu", 1, tiles=tiles)
    found = Scorer(setup.network, setup.bank, options)
    for batch in setup.batches:
        assert found(batch).equals(setup.scorer()(batch))
