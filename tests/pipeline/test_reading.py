"""Reading and decoding: rows in order, broken ones carried with their reasons."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.config import Pool, Storage
from pipeline.errors import ArtefactMissing
from pipeline.pool import list_shards, snapshot_table
from pipeline.reading import BATCH, ReadShards, find_ids, read_labeled
from pipeline.types import Shard

SIZE = 4


def png(value: int) -> bytes:
    sink = io.BytesIO()
    Image.new("L", (SIZE, SIZE), value).save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    """Two shards: 0 to 6 with 1 and 5 broken, and 7 to 9, the last one null in both columns."""
    images = [png(value) for value in range(10)]
    images[1], images[5] = b"text", b""
    table = pa.table({"id": [f"i{n}" for n in range(9)] + [None], "image": [*images[:9], None]})
    pq.write_table(table, tmp_path / "p.parquet", row_group_size=7)
    return Pool(uri=str(tmp_path))


def shards_of(pool: Pool) -> list[Shard]:
    return list(list_shards(pool, Storage()))


def reader(pool: Pool, batch_size: int) -> ReadShards:
    return ReadShards(pool, Storage(), SIZE, 1000, batch_size)


def batches(pool: Pool, batch_size: int) -> list[dict[str, object]]:
    tables = list(reader(pool, batch_size)(snapshot_table(shards_of(pool))))
    assert all(table.schema == BATCH and table.num_rows == 1 for table in tables)
    return [table.to_pylist()[0] for table in tables]


def test_batches_hold_consecutive_rows_and_never_two_shards(pool: Pool) -> None:
    found = batches(pool, 3)
    assert [(b["shard"], b["rows"], b["bad_rows"]) for b in found] == [
        (0, [0, 2], [1]),
        (0, [3, 4], [5]),
        (0, [6], []),
        (1, [0, 1], [2]),
    ]
    assert [(b["ids"], b["bad_ids"]) for b in found] == [
        (["i0", "i2"], ["i1"]),
        (["i3", "i4"], ["i5"]),
        (["i6"], []),
        (["i7", "i8"], [f"{pool.uri}/p.parquet#1:2"]),
    ]
    assert [b["bad_reasons"] for b in found] == [
        ["not an image: starts with 74 65 78 74"],
        ["no bytes"],
        [],
        ["no bytes"],
    ]
    assert {b["uri"] for b in found} == {f"{pool.uri}/p.parquet"}


def pixels_by_id(pool: Pool, batch_size: int) -> dict[str, set[int]]:
    found = {}
    for batch in batches(pool, batch_size):
        ids, data = batch["ids"], batch["pixels"]
        assert isinstance(ids, list)
        assert isinstance(data, bytes)
        pixels = np.frombuffer(data, np.uint8).reshape(len(ids), 3 * SIZE * SIZE)
        found |= {name: set(row.tolist()) for name, row in zip(ids, pixels, strict=True)}
    return found


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_pixels_follow_their_ids_however_the_batches_are_cut(pool: Pool, batch_size: int) -> None:
    assert pixels_by_id(pool, batch_size) == {f"i{n}": {n} for n in (0, 2, 3, 4, 6, 7, 8)}


def test_every_listed_row_comes_out_once(pool: Pool) -> None:
    for size in (1, 2, 4, 50):
        places: list[tuple[object, object]] = []
        for batch in batches(pool, size):
            for rows in (batch["rows"], batch["bad_rows"]):
                assert isinstance(rows, list)
                places += [(batch["shard"], row) for row in rows]
        assert sorted(places) == [(0, row) for row in range(7)] + [(1, row) for row in range(3)]


def test_labeled_rows_are_read_by_place_and_the_broken_are_apart(pool: Pool) -> None:
    first, _ = shards_of(pool)
    wanted = [{"id": f"i{n}", "target": n % 2, "held_out": n == 4, "row": n} for n in (4, 1, 0)]
    good, broken = read_labeled(first, wanted, pool, Storage(), SIZE, 1000)
    assert good["id"].to_pylist() == ["i4", "i0"]
    assert good["target"].to_pylist() == [0, 0]
    assert good["held_out"].to_pylist() == [True, False]
    assert [set(value) for value in good["pixels"].to_pylist()] == [{4}, {0}]
    (row,) = broken.to_pylist()
    assert row == {"id": "i1", "uri": first.uri, "reason": "not an image: starts with 74 65 78 74"}
    whole, nothing = read_labeled(first, [wanted[0], wanted[2]], pool, Storage(), SIZE, 1000)
    assert (whole.num_rows, nothing.num_rows) == (2, 0)


@pytest.mark.parametrize("row", [2, 700])
def test_a_shard_that_changed_since_the_plan_is_not_trained_on(pool: Pool, row: int) -> None:
    first, _ = shards_of(pool)
    with pytest.raises(ArtefactMissing, match="has changed"):
        read_labeled(
            first, [{"id": "i4", "target": 0, "held_out": False, "row": row}], pool, Storage(), SIZE, 1000
        )


def test_ids_are_found_with_their_places(pool: Pool) -> None:
    wanted = frozenset(["i8", "i0", "i1", "nobody", f"{pool.uri}/p.parquet#1:2"])
    assert find_ids(shards_of(pool), wanted, pool, Storage()) == [
        ("i0", 0, 0),
        ("i1", 0, 1),
        ("i8", 1, 1),
        (f"{pool.uri}/p.parquet#1:2", 1, 2),
    ]


def test_a_shard_that_cannot_be_read_goes_to_quarantine_whole(pool: Pool) -> None:
    shards = shards_of(pool)
    path = Path(shards[0].uri)
    path.write_bytes(b"x" * path.stat().st_size)
    (found,) = list(reader(pool, 3)(snapshot_table(shards[:1])))
    (batch,) = found.to_pylist()
    assert (batch["rows"], batch["ids"], batch["pixels"]) == ([], [], b"")
    assert batch["bad_rows"] == list(range(7))
    assert batch["bad_ids"] == [f"{shards[0].uri}#0:{row}" for row in range(7)]
    assert all("cannot be read" in reason for reason in batch["bad_reasons"])
    path.unlink()
    assert [t.to_pylist()[0]["bad_rows"] for t in reader(pool, 3)(snapshot_table(shards[1:]))] == [[0, 1, 2]]


def test_an_empty_id_is_no_id(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["", "a"], "image": [png(1), png(2)]}), tmp_path / "p.parquet")
    (batch,) = batches(Pool(uri=str(tmp_path)), 5)
    assert batch["ids"] == [f"{tmp_path}/p.parquet#0:0", "a"]
