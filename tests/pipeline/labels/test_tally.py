"""What many batches of labels add up to."""

from __future__ import annotations

import itertools
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import LabelError
from pipeline.labels.checks import check_batch
from pipeline.labels.tally import Labels

TAXONOMY = ("cat", "dog", "3")


rows_of_labels = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from(["cat", "dog", None])), max_size=12
)


@given(st.lists(rows_of_labels, max_size=4))
def test_the_last_answer_to_each_id_stands(files: list[list[tuple[str, str | None]]]) -> None:
    """Against a dictionary filled in order."""
    want: dict[str, str | None] = {}
    tables = []
    for rows in files:
        want |= dict(rows)
        tables.append(
            check_batch(
                pa.table(
                    {
                        "id": pa.array([r[0] for r in rows], pa.string()),
                        "label": pa.array([r[1] for r in rows], pa.string()),
                        "status": pa.array([None if r[1] else "skipped" for r in rows], pa.string()),
                    }
                ),
                "x",
                TAXONOMY,
            )
        )
    found = Labels.of(tables)
    assert dict(zip(*found.labeled(), strict=True)) == {k: v for k, v in want.items() if v is not None}
    assert found.answered() == set(want)
    assert found.table["id"].to_pylist() == sorted(want)


def told(*rows: tuple[str, str, str | None], taxonomy: tuple[str, ...] = TAXONOMY) -> Labels:
    """Answers of (annotator, label, status) to one image, each in a batch of its own."""
    tables = [
        pa.table(
            {
                "id": ["a"],
                "label": [label or None],
                "status": pa.array([status], pa.string()),
                "annotator": [who],
            }
        )
        for who, label, status in rows
    ]
    return Labels.of([check_batch(table, "x", taxonomy) for table in tables])


def outcome(found: Labels) -> tuple[Any, ...] | str:
    if found.tied():
        assert found.answered() == frozenset()
        return "tie"
    (row,) = found.table.select(["status", "label", "annotator"]).to_pylist()
    return tuple(row.values())


@pytest.mark.parametrize(
    ("rows", "want"),
    [
        ([("ann", "cat", None), ("bob", "dog", None)], "tie"),
        ([("ann", "cat", None), ("bob", "dog", None), ("cem", "dog", None)], ("labeled", "dog", "cem")),
        ([("ann", "cat", None), ("bob", "cat", None), ("cem", "dog", None)], ("labeled", "cat", "bob")),
        ([("ann", "cat", None), ("bob", "dog", None), ("cem", "3", None)], "tie"),
        # The last answer of each: ann has changed her mind, and bob has not gained a vote by saying it again.
        ([("ann", "cat", None), ("bob", "dog", None), ("ann", "dog", None)], ("labeled", "dog", "ann")),
        ([("ann", "cat", None), ("bob", "dog", None), ("bob", "dog", None)], "tie"),
        # Nobody's name: such an answer overrules, and is overruled.
        ([("", "cat", None), ("", "dog", None)], ("labeled", "dog", "")),
        ([("ann", "cat", None), ("bob", "dog", None), ("", "3", None)], ("labeled", "3", "")),
        ([("", "cat", None), ("ann", "dog", None)], ("labeled", "dog", "ann")),
        ([("ann", "cat", None), ("", "dog", None), ("bob", "3", None)], ("labeled", "3", "bob")),
        # Statuses are answers like classes; who skipped has no vote.
        ([("ann", "cat", None), ("bob", "", "out-of-world")], "tie"),
        ([("ann", "", "out-of-world"), ("b", "cat", None), ("c", "", "out-of-world")], ("out-of-world", None, "c")),
        ([("ann", "cat", None), ("bob", "", "skipped"), ("cem", "", "skipped")], ("labeled", "cat", "ann")),
        ([("ann", "", "skipped"), ("bob", "", "skipped")], ("skipped", None, "bob")),
        ([("ann", "cat", None), ("ann", "", "skipped")], ("skipped", None, "ann")),
        ([("ann", "bird", "unknown-class"), ("bob", "", "unknown-class")], "tie"),
        ([("ann", "bird", "unknown-class"), ("bob", "bird ", "unknown-class")], ("unknown-class", "bird", "bob")),
        # Neither label nor status is no answer.
        ([("ann", "cat", None), ("ann", "", None)], ("labeled", "cat", "ann")),
    ],
)  # fmt: skip
def test_the_majority_decides_and_a_tie_is_no_answer(
    rows: list[tuple[str, str, str | None]], want: tuple[Any, ...] | str
) -> None:
    assert outcome(told(*rows)) == want


def test_a_proposed_class_that_has_joined_is_a_label() -> None:
    rows = [("ann", "bird", "unknown-class"), ("bob", "bird", "labeled")]
    with pytest.raises(LabelError, match="'bird' is not in the taxonomy"):
        told(*rows)
    assert outcome(told(*rows, taxonomy=(*TAXONOMY, "bird"))) == ("labeled", "bird", "bob")
    assert told(rows[0]).proposed() == {"bird": 1}
    assert told(rows[0], taxonomy=(*TAXONOMY, "bird")).proposed() == {}


def test_proposals_are_counted_by_name() -> None:
    names = ["wasp", "bird", None, " bird", " "]
    table = pa.table({"id": list("abcde"), "label": names, "status": ["unknown-class"] * 5})
    found = Labels.of([check_batch(table, "x", TAXONOMY)])
    assert list(found.proposed().items()) == [("bird", 2), ("wasp", 1)]
    assert found.labeled() == ([], [])
    assert found.refused() == {"unknown-class": 5}


votes = st.tuples(
    st.sampled_from("ab"), st.sampled_from(["ann", "bob", "cem", ""]), st.sampled_from(["cat", "dog", ""])
)


@given(st.lists(votes, max_size=14), st.lists(st.integers(0, 14), max_size=3))
def test_votes_against_counting_by_hand(rows: list[tuple[str, str, str]], cuts: list[int]) -> None:
    """However the rows are cut into batches."""
    edges = [0, *sorted(cuts), len(rows)]
    tables = []
    for start, stop in itertools.pairwise(edges):
        ids, annotators, labels = ([row[i] for row in rows[start:stop]] for i in range(3))
        statuses = ["labeled" if name else "skipped" for name in labels]
        columns = {
            "id": ids,
            "label": [n or None for n in labels],
            "status": statuses,
            "annotator": annotators,
        }
        tables.append(
            check_batch(pa.table({k: pa.array(v, pa.string()) for k, v in columns.items()}), "x", TAXONOMY)
        )
    found = Labels.of(tables)
    for name in "ab":
        last: dict[str, str] = {}
        for _, annotator, label in (row for row in rows if row[0] == name):
            kept = {k: v for k, v in last.items() if k and annotator}
            last = kept | {annotator: label}
        said = [label for label in last.values() if label]
        times = {label: said.count(label) for label in said}
        best = [label for label, n in times.items() if n == max(times.values())]
        labels = dict(zip(*found.labeled(), strict=True))
        assert labels.get(name) == (best[0] if len(best) == 1 else None)
        assert (name in found.tied()) == (len(best) > 1)
        assert (name in found.answered()) == (bool(last) and len(best) <= 1)
