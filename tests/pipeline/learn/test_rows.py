"""The labeled table and its pixels."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import LabelError
from pipeline.learn.rows import Pixels, labeled_table, places_of, spelled
from pipeline.pool.listing import Listing
from pipeline.pool.reading import DECODED
from pipeline.types import LABELED
from tests.support.scoring_lab import config_of


def test_the_labeled_table_is_ordered_by_id_and_keeps_places() -> None:
    places = {"b": (0, 5), "a": (1, 2), "c": (0, 1)}
    table = labeled_table([("b", 1), ("a", 0), ("c", 1)], places, share=0.0, seed=0)
    assert table.schema == LABELED
    assert table.to_pylist() == [
        {"id": "a", "target": 0, "held_out": False, "shard": 1, "row": 2},
        {"id": "b", "target": 1, "held_out": False, "shard": 0, "row": 5},
        {"id": "c", "target": 1, "held_out": False, "shard": 0, "row": 1},
    ]
    again = labeled_table([("c", 1), ("b", 1), ("a", 0)], places, share=0.0, seed=0)
    assert again.equals(table)


def decoded(ids: str, size: int = 2) -> pa.Table:
    """Rows whose pixels and target follow from their id."""
    columns = {
        "id": list(ids),
        "target": [ord(name) % 3 for name in ids],
        "held_out": [name == "b" for name in ids],
        "pixels": [bytes([ord(name)]) * (3 * size * size) for name in ids],
    }
    return pa.table(columns, schema=DECODED)


@given(order=st.permutations("abcdefg"), cuts=st.lists(st.integers(0, 7), max_size=3), chunks=st.booleans())
def test_pixels_follow_their_ids_whatever_the_blocks(order: list[str], cuts: list[int], chunks: bool) -> None:
    table = decoded("".join(order))
    edges = [0, *sorted(cuts), 7]
    blocks = [table.slice(a, b - a) for a, b in itertools.pairwise(edges)]  # empty ones and offsets too
    pixels = Pixels.of([pa.concat_tables(blocks)] if chunks else blocks, 2)
    assert pixels.ids == tuple("abcdefg")
    assert len(pixels) == 7
    assert pixels.targets.tolist() == [ord(name) % 3 for name in "abcdefg"]
    assert pixels.held_out.tolist() == [name == "b" for name in "abcdefg"]
    rows = np.array([6, 0, 0, 3])
    taken = pixels.take(rows)
    assert taken.shape == (4, 3, 2, 2)
    assert taken.dtype == torch.uint8
    assert [set(image.flatten().tolist()) for image in taken] == [
        {ord("g")},
        {ord("a")},
        {ord("a")},
        {ord("d")},
    ]
    assert pixels.take(np.array([], np.int64)).shape == (0, 3, 2, 2)


def test_a_labeled_id_that_is_missing_is_told_as_the_pool_spells_it() -> None:
    composed, apart = "caf\N{LATIN SMALL LETTER E WITH ACUTE}.png", "cafe\N{COMBINING ACUTE ACCENT}.png"
    listing = Listing(None, {apart: (0, 1)}, None, 0, {}, (), None)  # type: ignore[arg-type]
    with pytest.raises(
        LabelError, match=r"1 labeled ids are not in the pool .* it has 'cafe\\u0301\.png' for"
    ):
        places_of([composed], listing, config_of("pool"), strict=True)
    assert places_of([apart], listing, config_of("pool"), strict=True) == {apart: (0, 1)}
    assert spelled(["x"], listing) == ""
