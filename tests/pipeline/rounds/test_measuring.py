"""Parts of a round's metrics by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from pipeline.config.project import Config
from pipeline.labels.forms.tables import label_table
from pipeline.labels.tally import Labels
from pipeline.rounds.measuring import _mean, _precision
from pipeline.rounds.stored import StoredRound
from pipeline.store.opening import Store
from pipeline.types import Label, LabelStatus
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.keys import round_key

MakeConfig = Callable[..., Config]


def test_the_mean_is_over_tested_classes_alone() -> None:
    per_class = {"cat": 0.5, "dog": 1.0, "owl": 0.25}
    assert _mean(per_class, ["cat", "dog"]) == 0.75
    assert _mean(per_class, ["owl", "bat"]) == 0.25  # nobody was tested on bats
    assert _mean(per_class, ["bat"]) is None
    assert _mean({}, []) is None


STATUSES: dict[str, LabelStatus] = {"a": "labeled", "b": "unknown-class", "c": "out-of-world", "d": "skipped"}


def labels(ids: str) -> Labels:
    rows = [Label(n, "cat" if STATUSES[n] == "labeled" else None, STATUSES[n], "ann") for n in ids]
    return Labels.of([label_table(rows)])


@pytest.mark.parametrize(
    ("ids", "expected"),
    [("abcd", 2 / 3), ("c", 0.0), ("ab", 1.0), ("d", None), ("", None)],  # who skips has not judged
)
def test_precision_is_the_share_of_this_world_among_the_judged(
    store: Store, make_config: MakeConfig, ids: str, expected: Any
) -> None:
    workspace = Workspace(store)
    asked = pa.table({"id": pa.array(list("abcd"), pa.string())})
    workspace.write_table(round_key(0, "query.parquet"), asked)
    assert _precision(StoredRound(workspace, 1, make_config()), labels(ids)) == (
        expected if expected is None else pytest.approx(expected)
    )


def test_answers_to_nobodys_question_do_not_count(store: Store, make_config: MakeConfig) -> None:
    workspace = Workspace(store)
    workspace.write_table(round_key(0, "query.parquet"), pa.table({"id": ["a"]}))
    assert _precision(StoredRound(workspace, 1, make_config()), labels("ac")) == 1.0


def test_before_the_first_query_there_is_no_precision(store: Store, make_config: MakeConfig) -> None:
    assert _precision(StoredRound(Workspace(store), 0, make_config()), labels("a")) is None
