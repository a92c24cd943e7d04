"""What listing says and how it shares out its work; on workers it runs in tests/whole/test_on_workers.py."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.config.sections import Pool
from pipeline.pool import listing
from pipeline.pool.listing import DUPLICATES, Listing, Unreadable, refusals
from pipeline.pool.shards import Unit
from pipeline.store.opening import LocalStore
from pipeline.types import Listed
from pipeline.workspace.artefacts import Workspace
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
    assert Listing(snapshot, {}, none, 0, {}, (), None).told() == "3 images in 2 shards"
    same = {"new": 0, "changed": 0, "vanished": 0}
    assert (
        Listing(snapshot, {}, none, 0, {}, (), same).told()
        == "3 images in 2 shards; objects since the last round: unchanged"
    )
    twice = pa.Table.from_pylist([{"shard": 0, "row": 0, "id": "a", "first": "b"}], schema=DUPLICATES)
    left_out = {"of other programs": 3, ".txt files in tars": 7}
    cut = Unreadable("cut.tar", 1_000_000, 4, "broken: the tar ends within it")
    told = Listing(snapshot, {}, twice, 2, left_out, (cut,), same | {"new": 4, "vanished": 1}).told()
    assert "; 1 files of 1,000,000 bytes can't be read to their end: beside 4 rows" in told
    assert "; left out: 7 .txt files in tars, 3 of other programs;" in told
    assert "objects since the last round: 4 new, 1 vanished" in told
    assert "; 2 objects that are no .parquet, .tar or image;" in told
    assert told.endswith("; 1 ids stand twice")
