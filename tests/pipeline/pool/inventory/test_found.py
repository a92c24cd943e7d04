"""Findings, sorted and counted."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from pipeline.pool.inventory.found import Group, Left, Lost, Note, Surveyed, most
from pipeline.types import Listed


def test_findings_are_sorted_by_what_they_are() -> None:
    group = Group((Listed("u", None, 1, 1, "t"),), pa.array(["a"]))
    lost = Lost("v", "broken", 7)
    found = Surveyed.of([Left("x"), group, lost, Left("x", 4), Note("n"), Left("y"), Note("n")])
    assert (found.groups, found.lost) == ([group], [lost])
    assert (found.left, found.notes) == (Counter(x=5, y=1), Counter(n=2))


def test_the_commonest_kinds_are_told_apart_and_none_is_forgotten() -> None:
    counts = Counter({"b": 2, "a": 2, "c": 9, "d": 1, "e": 1})
    assert most(counts, 9) == {"c": 9, "a": 2, "b": 2, "d": 1, "e": 1}
    assert list(most(counts, 2).items()) == [("c", 9), ("a", 2), ("of other kinds", 4)]
