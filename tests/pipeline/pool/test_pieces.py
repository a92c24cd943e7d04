"""Pieces of shards and choices of their rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.pool.pieces import Piece
from tests.support.pools import flat


@given(st.lists(st.integers(0, 20), unique=True), st.none() | st.sets(st.integers(0, 20)))
def test_only_keeps_what_is_wanted(places: list[int], wanted: set[int] | None) -> None:
    places = sorted(places)
    piece = Piece(places, [f"i{n}" for n in places], [f"u{n}" for n in places], [b"%d" % n for n in places])
    kept = [n for n in places if wanted is None or n in wanted]
    assert flat([piece.only(wanted)]) == [(n, f"i{n}", f"u{n}", b"%d" % n) for n in kept]
