"""What listing says and how it shares out its work; on workers it runs in tests/whole/test_on_workers.py."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.config.sections import Pool
from pipeline.pool import listing
from pipeline.pool.listing import DUPLICATES, Listing, refusals
from pipeline.pool.shards import Unit
from pipeline.store.opening import LocalStore
from pipeline.types import Listed
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.plan import Loss
from tests.support.pools import parquet, snapshot_of


def unit(form: str, objects: int = 1) -> Unit:
    return Unit(form, tuple(Listed(f"{form}{n}", None, 1, 1, "t") for n in range(objects)))  # type: ignore[arg-type]


def test_tasks_hold_some_files_or_many_images_and_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "TASK_FILES", 2)
    monkeypatch.setattr(listing, "TASK_OBJECTS", 5)
    units = [
        unit("parquet"),
        unit("image", 3),
        unit("tar"),
        unit("image", 3),
        unit("image", 3),
        unit("image"),
    ]
    tasks = list(listing._tasks(units))
    assert [each for task in tasks for each in task] == units
    assert [len(task) for task in tasks] == [3, 2, 1]  # two files, six images, the rest
    assert list(listing._tasks([])) == []


def test_refusals_are_found_by_shard_and_row() -> None:
    rows = [
        {"shard": 1, "row": 4, "id": "a", "first": "x.parquet#0 row 2"},
        {"shard": 1, "row": 5, "id": "b", "first": "y.tar row 0"},
        {"shard": 3, "row": 0, "id": "a", "first": "x.parquet#0 row 2"},
    ]
    found = refusals(pa.Table.from_pylist(rows, schema=DUPLICATES))
    assert {shard: sorted(rows) for shard, rows in found.items()} == {1: [4, 5], 3: [0]}
    assert found[3][0] == "duplicate id: it stands first in x.parquet#0 row 2"
    assert refusals(DUPLICATES.empty_table()) == {}


def test_a_listing_is_told_in_a_line(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    store.put("a.parquet", parquet({"id": ["a", "b", "c"], "image": [b"1", b"2", b"3"]}, 2))
    snapshot = snapshot_of(Pool(uri=store.uri), Workspace(store))
    none = DUPLICATES.empty_table()
    assert Listing(snapshot, {}, none, 0, None).told() == "3 images in 2 shards"
    same = {"new": 0, "changed": 0, "vanished": 0}
    assert (
        Listing(snapshot, {}, none, 0, same).told()
        == "3 images in 2 shards; objects since the last round: unchanged"
    )
    twice = pa.Table.from_pylist([{"shard": 0, "row": 0, "id": "a", "first": "b"}], schema=DUPLICATES)
    told = Listing(snapshot, {}, twice, 2, same | {"new": 4, "vanished": 1}).told()
    assert "objects since the last round: 4 new, 1 vanished" in told
    assert told.endswith("; 2 objects that are no .parquet, .tar or image; 1 ids stand twice")


def test_what_is_left_out_lost_or_read_by_a_rule_is_told(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    store.put("a.parquet", parquet({"id": ["a"], "image": [b"1"]}))
    snapshot = snapshot_of(Pool(uri=store.uri), Workspace(store))
    found = Listing(
        snapshot,
        {},
        DUPLICATES.empty_table(),
        1,
        None,
        left={"members that end in .json": 9, "objects that end in .txt": 1},
        notes={"Parquet files name their rows by object and row": 2},
        loss=Loss(files=2, bytes=3000),
    )
    assert found.told() == (
        "1 images in 1 shards; without 2 tables or tars that can't be read in full (3,000 bytes); "
        "1 objects that are no .parquet, .tar or image; "
        "left out: 9 members that end in .json, 1 objects that end in .txt; "
        "2 Parquet files name their rows by object and row"
    )
