"""Reading and decoding: rows in order, broken ones carried with their reasons, and shards that kill given up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.config.sections import Pool
from pipeline.errors import ArtefactMissing
from pipeline.images.decode import Transform
from pipeline.pool import reading as room
from pipeline.pool.pieces import Failure
from pipeline.pool.reading import BATCH, DEATHS, ReadShards, read_places
from pipeline.pool.snapshot import Snapshot
from pipeline.store.opening import LocalStore
from pipeline.workspace.artefacts import Workspace
from tests.support.pools import parquet, png, read, reading, shards_of, snapshot_of, tar

SIZE = 4
TRANSFORM = Transform(SIZE, None, "bilinear", 1000)

Batches = list[dict[str, Any]]


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    """Two shards: 0 to 6 with 1 and 5 broken, and 7 to 9, the last one null in both columns."""
    images = [png(value) for value in range(10)]
    images[1], images[5] = b"text", b""
    table = {"id": [f"i{n}" for n in range(9)] + [None], "image": [*images[:9], None]}
    LocalStore(str(tmp_path / "pool")).put("p.parquet", parquet(table, group=7))
    return Pool(uri=str(tmp_path / "pool"))


def snapshot(pool: Pool) -> Snapshot:
    return snapshot_of(pool, Workspace(LocalStore(f"{pool.uri}-workspace")))


def batches(
    pool: Pool,
    batch_size: int,
    *,
    listed: Snapshot | None = None,
    deaths: int = 0,
    refused: Any = None,
    **how: Any,
) -> Batches:
    found = listed or snapshot(pool)
    read = ReadShards(found.folder, reading(pool, **how), TRANSFORM, batch_size, refused or {})
    tables = list(read(found.table, deaths))
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
    uris = [(b["uris"], b["bad_uris"]) for b in found]
    assert {uri for good, bad in uris for uri in good + bad} == {f"{pool.uri}/p.parquet"}
    assert [len(good) + len(bad) for good, bad in uris] == [3, 3, 1, 3]
    assert [(b["bad_stages"], b["bad_attempts"]) for b in found if b["bad_rows"]] == [(["decode"], [1])] * 3


def pixels_by_id(found: Batches) -> dict[str, set[int]]:
    values = {}
    for batch in found:
        pixels = np.frombuffer(batch["pixels"], np.uint8).reshape(len(batch["ids"]), 3 * SIZE * SIZE)
        values |= {name: set(row.tolist()) for name, row in zip(batch["ids"], pixels, strict=True)}
    return values


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_pixels_follow_their_ids_however_the_batches_are_cut(pool: Pool, batch_size: int) -> None:
    assert pixels_by_id(batches(pool, batch_size)) == {f"i{n}": {n} for n in (0, 2, 3, 4, 6, 7, 8)}


def test_every_listed_row_comes_out_once(pool: Pool) -> None:
    for size in (1, 2, 4, 50):
        found = batches(pool, size)
        places = [(b["shard"], row) for b in found for rows in (b["rows"], b["bad_rows"]) for row in rows]
        assert sorted(places) == [(0, row) for row in range(7)] + [(1, row) for row in range(3)]


@pytest.fixture
def forms(tmp_path: Path) -> Pool:
    """Images, a tar and Parquet, 40 rows each, some of them broken."""
    store = LocalStore(str(tmp_path / "forms"))
    images = [png(value) if value % 7 else b"broken" for value in range(40)]
    for number, data in enumerate(images):
        store.put(f"i/{number:02d}.png", data)
    store.put("p.parquet", parquet({"id": [f"p{n}" for n in range(40)], "image": images}))
    store.put("t.tar", tar({f"t{n}.png": data for n, data in enumerate(images)}))
    return Pool(uri=store.uri)


@pytest.mark.parametrize("batch_size", [7, 16])
def test_batches_do_not_depend_on_the_bytes_in_flight(forms: Pool, batch_size: int) -> None:
    listed = snapshot(forms)
    want = batches(forms, batch_size, listed=listed)
    assert [b["shard"] for b in want] == [n for n in range(3) for _ in range(-(-40 // batch_size))]
    for budget in (1, 300, 2000):
        assert batches(forms, batch_size, listed=listed, budget=budget) == want


def test_rows_that_the_listing_refused_are_not_decoded(pool: Pool) -> None:
    first, *_ = batches(
        pool, 100, refused={0: {0: "duplicate id: here", 1: "duplicate id: there"}, 5: {0: "x"}}
    )
    assert first["ids"] == ["i2", "i3", "i4", "i6"]
    bad = zip(first["bad_rows"], first["bad_ids"], first["bad_stages"], first["bad_reasons"], strict=True)
    assert sorted(bad) == [
        (0, "i0", "list", "duplicate id: here"),
        (1, "i1", "list", "duplicate id: there"),
        (5, "i5", "decode", "no bytes"),
    ]


def test_what_storage_did_not_give_says_how_often_it_was_asked(pool: Pool, monkeypatch: Any) -> None:
    listed = snapshot(pool)
    monkeypatch.setattr(room, "pieces", lambda shard, _: iter([lost(shard.shard)]))
    found = batches(pool, 3, listed=listed.take([1]))
    assert [(b["bad_stages"], b["bad_attempts"], b["bad_reasons"]) for b in found] == [
        (["read"], [5], ["storage did not answer"])
    ]


def lost(shard: int) -> Any:
    return room.Piece([0], [f"i{shard}"], ["u"], [Failure("storage did not answer", 5)])


# ------------------------------------------------------------------------------------- processes that die


def test_images_decoded_apart_are_the_same(forms: Pool) -> None:
    listed = snapshot(forms).take([1])
    assert batches(forms, 16, listed=listed, deaths=2) == batches(forms, 16, listed=listed)


def test_one_death_may_be_anybodys(pool: Pool, monkeypatch: Any) -> None:
    monkeypatch.setattr(room, "decode_apart", None)  # not called
    assert batches(pool, 3, deaths=1) == batches(pool, 3)


@pytest.mark.parametrize("deaths", [DEATHS, DEATHS + 3])
def test_a_shard_that_kills_to_the_end_is_given_up(forms: Pool, monkeypatch: Any, deaths: int) -> None:
    want = [
        name if uri.endswith(".png") else f"{shard.place}:{row}"  # what may kill when it is opened stays shut
        for shard in shards_of(forms)
        for row, name, uri, _ in read(shard, forms)
    ]
    monkeypatch.setattr(room, "pieces", None)  # nothing of it is touched again
    found = batches(forms, 16, deaths=deaths)
    assert [name for b in found for name in b["bad_ids"]] == want
    assert [uri.rpartition("/")[2] for uri in found[0]["bad_uris"][:2]] == ["00.png", "01.png"]
    assert {b["pixels"] for b in found} == {b""}
    why = f"deadly: {deaths} processes died while they read this shard"
    assert {reason for b in found for reason in b["bad_reasons"]} == {why}
    assert {attempts for b in found for attempts in b["bad_attempts"]} == {deaths}


# ------------------------------------------------------------------------------------------- labeled rows


def labeled(pool: Pool, rows: list[dict[str, Any]], shard: int = 0) -> tuple[pa.Table, pa.Table]:
    return read_places(shards_of(pool)[shard], rows, reading=reading(pool), transform=TRANSFORM)


def test_labeled_rows_are_read_by_place_and_the_broken_are_apart(pool: Pool) -> None:
    wanted = [{"id": f"i{n}", "target": n % 2, "held_out": n == 4, "row": n} for n in (4, 1, 0, 5)]
    good, broken = labeled(pool, wanted)
    assert good["id"].to_pylist() == ["i0", "i4"]
    assert good["target"].to_pylist() == [0, 0]
    assert good["held_out"].to_pylist() == [False, True]
    assert [set(value) for value in good["pixels"].to_pylist()] == [{0}, {4}]
    uri = f"{pool.uri}/p.parquet"
    assert broken.to_pylist() == [
        {"id": "i1", "uri": uri, "reason": "not an image: starts with 74 65 78 74"},
        {"id": "i5", "uri": uri, "reason": "no bytes"},
    ]
    whole, nothing = labeled(pool, [wanted[0], wanted[2]])
    assert (whole.num_rows, nothing.num_rows) == (2, 0)


def test_another_id_at_the_place_is_not_trained_on(pool: Pool) -> None:
    with pytest.raises(ArtefactMissing, match="has changed: row 2 was 'i4'"):
        labeled(pool, [{"id": "i4", "target": 0, "held_out": False, "row": 2}])


def test_labeled_rows_that_cannot_be_read_are_told_by_their_ids(pool: Pool) -> None:
    (shard, _) = shards_of(pool)
    LocalStore(pool.uri).put("p.parquet", b"another")
    row = {"id": "i4", "target": 0, "held_out": False, "row": 4}
    good, broken = read_places(shard, [row], reading=reading(pool), transform=TRANSFORM)
    assert good.num_rows == 0
    assert broken.to_pylist() == [
        {"id": "i4", "uri": f"{pool.uri}/p.parquet", "reason": "changed since the pool was listed"}
    ]


def test_a_shard_that_changed_goes_to_quarantine_whole(pool: Pool) -> None:
    listed = snapshot(pool)
    path = Path(pool.uri) / "p.parquet"
    path.write_bytes(b"x" * path.stat().st_size)
    first = batches(pool, 100, listed=listed.take([0]))[0]
    assert (first["rows"], first["ids"], first["pixels"]) == ([], [], b"")
    assert first["bad_rows"] == list(range(7))
    assert first["bad_ids"] == [f"{path}#0:{row}" for row in range(7)]
    assert set(first["bad_reasons"]) == {"changed since the pool was listed"}
    path.unlink()
    (last,) = batches(pool, 3, listed=listed.take([1]))
    assert last["bad_rows"] == [0, 1, 2]
    assert set(last["bad_reasons"]) == {"vanished since the pool was listed"}
