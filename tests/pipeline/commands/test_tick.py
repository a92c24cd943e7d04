"""When a scheduled step works, and why; the workspace is written by hand, as a round leaves it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from pipeline.ask.selection import settled
from pipeline.commands import tick
from pipeline.config.project import Config
from pipeline.config.sections import Stop
from pipeline.errors import LabelError, WaitingForLabels
from pipeline.labels.files import LabelFiles
from pipeline.pool.snapshot import SnapshotWriter
from pipeline.store.opening import Store
from pipeline.types import LABELS, QUERY, Listed
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.keys import round_key

MakeConfig = Callable[..., Config]
COMMITTED = datetime(2026, 1, 1, tzinfo=UTC)
NOW = COMMITTED.timestamp() + 3 * 3600


def committed(store: Store, asked: list[str]) -> Workspace:
    """Round 000, three hours ago, that asked about some ids; its pool held three images."""
    workspace = Workspace(store)
    rows = [
        {"rank": i, "id": name, "uri": "u", "score": 0.0, "predicted": "cat", "reason": "r"}
        for i, name in enumerate(asked)
    ]
    workspace.write_table(round_key(0, "query.parquet"), pa.Table.from_pylist(rows, schema=QUERY))
    workspace.write_json(round_key(0, "commit.json"), {"fence": 1, "at": COMMITTED.isoformat()})
    workspace.write_json(round_key(0, "plan.json"), {"labels": []})
    writer = SnapshotWriter(Folder.of_round(workspace, 0))
    for entry in Workspace(store).store.list("pool/"):
        writer.add([Listed(store.url(entry.key), None, 1, entry.size, entry.etag)], "")
    writer.close()
    workspace.write_json(round_key(0, "round.json"), {})
    return workspace


def reason_to_work(workspace: Workspace, config: Config, *, now: float) -> str | None:
    """The reason by the label files of this moment."""
    return tick.reason_to_work(workspace, config, LabelFiles.read(workspace), now=now)


def answer(workspace: Workspace, key: str, *ids: str, label: str = "cat") -> None:
    rows = [{"id": name, "label": label, "status": "labeled", "annotator": "a", "at": None} for name in ids]
    workspace.write_table(f"labels/{key}.parquet", pa.Table.from_pylist(rows, schema=LABELS))


@pytest.fixture
def config(store: Store, make_config: MakeConfig) -> Callable[..., Config]:
    for name in "abc":
        store.put(f"pool/{name}.png", name.encode())

    def make(rounds: int = 5, **tick: Any) -> Config:
        plain = {"uri": store.url("pool")}
        return make_config(pool=plain, rounds=rounds, tick=json.loads(json.dumps(tick)))

    return make


def test_a_new_project_starts_and_an_interrupted_round_goes_on(
    store: Store, config: Callable[..., Config]
) -> None:
    workspace = Workspace(store)
    assert reason_to_work(workspace, config(), now=NOW) == "no round is committed yet"
    workspace.write_json(round_key(0, "plan.json"), {})
    assert reason_to_work(workspace, config(), now=NOW) == "round 000 was interrupted"


def test_an_open_query_is_waited_for_until_enough_is_answered(
    store: Store, config: Callable[..., Config]
) -> None:
    workspace = committed(store, ["a", "b", "c", "d"])
    with pytest.raises(
        WaitingForLabels, match=r"0 of the 4 questions .* 4 are needed .*001-answers\.parquet"
    ):
        reason_to_work(workspace, config(), now=NOW)
    answer(workspace, "001-answers", "a", "b", "other")
    with pytest.raises(WaitingForLabels, match="2 of the 4"):
        reason_to_work(workspace, config(answered=0.75), now=NOW)
    assert "2 of the 4" in (reason_to_work(workspace, config(answered=0.5), now=NOW) or "")
    assert "3 hours are enough" in (reason_to_work(workspace, config(wait_h=2.5), now=NOW) or "")
    with pytest.raises(WaitingForLabels):
        reason_to_work(workspace, config(wait_h=3.5), now=NOW)


def test_waiting_is_over_with_one_answer_at_least(store: Store, config: Callable[..., Config]) -> None:
    workspace = committed(store, ["a"])
    for plan in ({"wait_h": 1.0}, {"answered": 0.0}):
        with pytest.raises(WaitingForLabels, match="0 of the 1"):
            reason_to_work(workspace, config(**plan), now=NOW)


def test_with_nothing_open_growth_age_and_labels_are_reasons(
    store: Store, config: Callable[..., Config]
) -> None:
    workspace = committed(store, [])
    assert reason_to_work(workspace, config(), now=NOW) is None
    assert reason_to_work(workspace, config(max_age_h=4.0), now=NOW) is None
    assert reason_to_work(workspace, config(max_age_h=3.0), now=NOW) == "round 000 is 3 hours old"
    store.put("pool/b.png", b"changed")
    store.put("pool/readme.txt", b"no image")
    assert reason_to_work(workspace, config(), now=NOW) is None
    store.put("pool/d.png", b"new")
    assert reason_to_work(workspace, config(pool_growth=0.34), now=NOW) is None
    assert reason_to_work(workspace, config(), now=NOW) == "the pool has grown by 33.3% since round 000"
    answer(workspace, "001-more", "z")
    assert reason_to_work(workspace, config(pool_growth=0.34), now=NOW) == "labels came since round 000"


def test_after_the_last_round_there_is_no_reason(store: Store, config: Callable[..., Config]) -> None:
    workspace = committed(store, ["a"])
    assert reason_to_work(workspace, config(rounds=1), now=NOW) is None


def test_a_label_file_that_holds_none_is_told_at_once(store: Store, config: Callable[..., Config]) -> None:
    workspace = committed(store, ["a"])
    answer(workspace, "001-answers", "a", label="zebra")
    with pytest.raises(LabelError, match="'zebra' is not in the taxonomy"):
        reason_to_work(workspace, config(), now=NOW)


def test_a_tie_does_not_hold_up_the_round_that_asks_again(
    store: Store, config: Callable[..., Config]
) -> None:
    workspace = committed(store, ["a", "b"])
    rows = [
        {"id": "a", "label": label, "status": "labeled", "annotator": who, "at": None}
        for label, who in (("cat", "ann"), ("dog", "bob"))
    ]
    workspace.write_table("labels/001-two.parquet", pa.Table.from_pylist(rows, schema=LABELS))
    with pytest.raises(WaitingForLabels, match="1 of the 2"):
        reason_to_work(workspace, config(), now=NOW)
    answer(workspace, "002-more", "b")
    assert "2 of the 2" in (reason_to_work(workspace, config(), now=NOW) or "")
    answers = LabelFiles.read(workspace).labels(["cat", "dog"])
    assert settled(workspace, 1, answers) == {"b"}, "the tie may be asked about again"


def test_what_an_earlier_query_is_out_with_is_not_asked_again(store: Store) -> None:
    workspace = committed(store, ["a", "b"])
    nobody = LabelFiles(workspace).labels(["cat", "dog"])
    assert settled(workspace, 0, nobody) == frozenset()
    assert settled(workspace, 1, nobody) == {"a", "b"}


def test_a_spent_budget_is_no_reason(store: Store, config: Callable[..., Config]) -> None:
    workspace = committed(store, ["a"])
    answer(workspace, "001-answers", "a")
    plain = config()
    assert reason_to_work(workspace, plain, now=NOW) is not None
    spent = plain.model_copy(update={"stop": Stop(labels=1)})
    workspace.write_json(
        round_key(0, "metrics.json"), {"test_accuracy": None, "held_out_accuracy": None, "seconds": {}}
    )
    assert reason_to_work(workspace, spent, now=NOW) is None


def test_a_withdrawn_image_is_no_answer_to_the_open_query(
    store: Store, config: Callable[..., Config]
) -> None:
    workspace = committed(store, ["a", "b"])
    gone = {"id": ["a"], "label": pa.nulls(1, pa.string()), "status": ["withdrawn"]}
    workspace.write_table("labels/001-withdrawn-x.parquet", pa.table(gone))
    with pytest.raises(WaitingForLabels, match="0 of the 1 questions of round 000 are answered"):
        reason_to_work(workspace, config(), now=NOW)
    answer(workspace, "001-answers", "b")
    assert reason_to_work(workspace, config(), now=NOW) == "1 of the 1 questions of round 000 are answered"


def test_files_that_answer_nothing_are_told(store: Store, config: Callable[..., Config]) -> None:
    workspace = committed(store, ["a.png", "b.png"])
    answer(workspace, "001-answers", "a")
    with pytest.raises(
        WaitingForLabels, match=r"none of its 1 ids was asked about, such as 'a'; did you mean a\.png\?"
    ):
        reason_to_work(workspace, config(), now=NOW)
