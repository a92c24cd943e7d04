"""Parquet files as a pool: row groups are shards, columns are the config's, and damage is rows with a reason."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.config.sections import Pool, Storage
from pipeline.errors import PoolError
from pipeline.pool import parquet as pool_parquet
from pipeline.pool.parquet import groups
from pipeline.pool.pieces import Failure
from pipeline.pool.shards import check_pool, ids_of, pieces
from pipeline.pool.source import PoolSource
from pipeline.store.opening import LocalStore, S3Store, Store, open_store
from pipeline.store.ranged import NEAR
from pipeline.types import Listed, Shard
from tests.support.pools import groups_of, parquet, read, reading, rows, shards_of, source_of, surveyed

EMPTY = {"id": pa.array([], pa.string()), "image": pa.array([], pa.binary())}


def test_row_groups_become_shards_in_the_order_of_the_keys(store: Store) -> None:
    store.put("b.parquet", parquet(rows("b0", "b1", "b2"), group=2))
    store.put("a/z.parquet", parquet(rows("z0")))
    store.put("a-first.parquet", parquet(rows("f0", "f1")))
    store.put(".tmp.parquet", b"not a piece of the pool")
    pool = Pool(uri=store.uri)
    shards = shards_of(pool)
    items = [item for shard in shards for item in shard.listed]
    assert [(item.uri.removeprefix(f"{store.uri}/"), item.row_group, item.rows) for item in items] == [
        ("a-first.parquet", 0, 2),
        ("a/z.parquet", 0, 1),
        ("b.parquet", 0, 2),
        ("b.parquet", 1, 1),
    ]
    assert [ids_of(shard, source_of(pool)) for shard in shards] == [
        ["f0", "f1"],
        ["z0"],
        ["b0", "b1"],
        ["b2"],
    ]
    assert list(groups(source_of(pool))) == items


def test_row_groups_without_rows_are_no_shards(store: Store) -> None:
    store.put("a.parquet", parquet(EMPTY))
    store.put("b.parquet", parquet(rows("x")))
    assert [shard.rows for shard in shards_of(Pool(uri=store.uri))] == [1]


GOOD = parquet(rows(*range(1000)))
NOISE = [
    b"",
    b"hello",
    b"PAR1" + b"\x15" * 100 + (60).to_bytes(4, "little") + b"PAR1",  # a footer of noise
    GOOD[: len(GOOD) // 2],
    b"PAR1" * 3,
]


@pytest.mark.parametrize("data", NOISE)
def test_what_is_not_parquet_is_lost_with_the_reason_and_no_row(store: Store, data: bytes) -> None:
    store.put("a.parquet", parquet(rows("a")))
    store.put("broken.parquet", data)
    pool = Pool(uri=store.uri)
    check_pool(source_of(pool))
    found = surveyed(pool)
    assert [group.ids.to_pylist() for group in found.groups] == [["a"]]
    (lost,) = found.lost
    assert (lost.uri, lost.bytes, lost.listed) == (store.url("broken.parquet"), len(data), 0)
    assert lost.reason.startswith("broken: ")
    assert "\n" not in lost.reason
    # A listing of an earlier release has such a file as one row, which is read as before.
    sizes = {entry.key: (entry.size, entry.etag) for entry in store.list()}
    size, etag = sizes["broken.parquet"]
    shard = Shard(1, (Listed(store.url("broken.parquet"), None, 1, size, etag),))
    assert ids_of(shard, source_of(pool)) == ["broken.parquet"]
    ((row, name, uri, failure),) = read(shard, pool)
    assert (row, name, uri) == (0, "broken.parquet", store.url("broken.parquet"))
    assert isinstance(failure, Failure)
    assert failure.reason.startswith("broken: ")
    assert (failure.stage, failure.attempts) == ("read", 1)
    with pytest.raises(PoolError, match=r"broken\.parquet: not a Parquet file") as raised:
        list(groups(source_of(pool)))  # a test set has to be whole
    assert "\n" not in str(raised.value)


BAD_COLUMNS = [
    ({"idd": ["a"], "image": [b""]}, r"pool\.id_column: .*a\.parquet has no column 'id'; did you mean idd\?"),
    ({"id": ["a"], "img": [b""]}, r"pool\.image_column: .*no column 'image'; did you mean img\?"),
    ({"id": ["a"], "image": ["text"]}, r"pool\.image_column: 'image' in .* is string, expected encoded bytes"),
    ({"id": ["a"], "image": [{"byte": b""}]}, r"pool\.image_column: .* is struct<byte: binary>, expected"),
    ({"id": ["a"], "image": [{"bytes": "x"}]}, r"pool\.image_column: .* is struct<bytes: string>, expected"),
    ({"id": [1.5], "image": [b""]}, r"pool\.id_column: 'id' in .* is double, expected text or integers"),
    ({"id": [True], "image": [b""]}, r"pool\.id_column: 'id' in .* is bool, expected text or integers"),
    ({"image_id": ["a"], "image": [b""]}, r"pool\.id_column: .* no column 'id'; did you mean image_id\?"),
    (pa.table([["a"], ["b"], [b""]], names=["id", "id", "image"]), r"pool\.id_column: .* has 2 columns 'id'"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "message"), BAD_COLUMNS)
@pytest.mark.parametrize(
    "look", [check_pool, lambda source: groups_of(source.pool), lambda source: list(groups(source))]
)
def test_columns_that_do_not_fit_are_refused(
    store: Store, table: Any, message: str, look: Callable[[PoolSource], Any]
) -> None:
    store.put("a.parquet", parquet(table))
    with pytest.raises(PoolError, match=message):
        look(source_of(Pool(uri=store.uri)))


def test_the_early_look_passes_over_files_without_rows(store: Store) -> None:
    store.put("a.parquet", parquet(EMPTY))
    store.put("b.parquet", parquet({"idd": ["a"], "image": [b""]}))
    with pytest.raises(PoolError, match=r"b\.parquet has no column 'id'"):
        check_pool(source_of(Pool(uri=store.uri)))


def test_the_columns_are_the_configs(store: Store) -> None:
    store.put("a.parquet", parquet({"key": ["a"], "png": [b"1"], "extra": [1]}))
    pool = Pool(uri=store.uri, id_column="key", image_column="png")
    (shard,) = shards_of(pool)
    assert read(shard, pool) == [(0, "a", store.url("a.parquet"), b"1")]


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.uint64(), pa.int64(), pa.large_string(), pa.string_view(), pa.string()]
)
def test_ids_of_any_kind_become_text_and_null_ids_get_a_place(store: Store, kind: pa.DataType) -> None:
    values = [7, None, 9, None] if pa.types.is_integer(kind) else ["7", None, "9", None]
    table = pa.table({"id": pa.array(values, kind), "image": pa.array([b"x"] * 4, pa.large_binary())})
    store.put("a.parquet", parquet(table, group=2))
    uri = store.url("a.parquet")
    pool = Pool(uri=store.uri)
    assert [group.ids.to_pylist() for group in groups_of(pool)] == [["7", f"{uri}#0:1"], ["9", f"{uri}#1:1"]]
    for budget in (1, 1 << 20):  # places count from the start of the row group, not of a piece
        found = [name for shard in shards_of(pool) for _, name, _, _ in read(shard, pool, budget=budget)]
        assert found == ["7", f"{uri}#0:1", "9", f"{uri}#1:1"]


def test_an_empty_id_is_no_id(store: Store) -> None:
    store.put("a.parquet", parquet({"id": ["", "a"], "image": [b"1", b"2"]}))
    (group,) = groups_of(Pool(uri=store.uri))
    assert group.ids.to_pylist() == [f"{store.url('a.parquet')}#0:0", "a"]


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (parquet(rows("a", "b")), "changed since the pool was listed"),
        (parquet(rows("x", "y", "z"), group=2), "changed since the pool was listed"),
        (b"x", "changed since the pool was listed"),
        (None, "vanished since the pool was listed"),
    ],
)
def test_a_file_that_changed_since_it_was_listed_is_not_read(
    store: Store, after: bytes | None, why: str
) -> None:
    store.put("a.parquet", parquet(rows("a", "b", "c"), group=2))
    pool = Pool(uri=store.uri)
    shards = shards_of(pool)
    if after is None:
        store.delete("a.parquet")
    else:
        store.put("a.parquet", after)
    uri = store.url("a.parquet")
    assert [read(shard, pool) for shard in shards] == [
        [(0, f"{uri}#0:0", uri, Failure(why)), (1, f"{uri}#0:1", uri, Failure(why))],
        [(0, f"{uri}#1:0", uri, Failure(why))],
    ]
    assert read(shards[0], pool, {1}) == [(1, f"{uri}#0:1", uri, Failure(why))]


def test_the_rows_before_the_damage_are_read(store: Store) -> None:
    """The ids lie apart from the images, so they are known for the lost rows too."""
    noise = np.random.default_rng(0).bytes
    images = [noise(3000) for _ in range(64)]
    table = {"id": [f"i{n}" for n in range(64)], "image": images}
    data = bytearray(
        parquet(table, use_dictionary=False, compression="NONE", data_page_size=1, write_batch_size=8)
    )
    first, last = (data.index(images[row]) for row in (40, 63))
    data[first : last + 3000] = b"\xff" * (last + 3000 - first)  # the headers of pages too
    store.put("a.parquet", bytes(data))
    pool = Pool(uri=store.uri)
    (group,) = groups_of(pool)
    (shard,) = shards_of(pool)
    found = read(shard, pool, budget=1)
    assert [(row, name) for row, name, _, _ in found] == [(n, f"i{n}") for n in range(64)]
    assert group.ids.to_pylist() == [f"i{n}" for n in range(64)]
    assert [data for *_, data in found[:40]] == images[:40]
    (reason,) = {data.reason for *_, data in found[48:] if isinstance(data, Failure)}
    assert reason.startswith("broken: ")


def test_images_that_are_too_big_are_told_by_their_size(store: Store) -> None:
    store.put("a.parquet", parquet({"id": ["a", "b", "c"], "image": [b"x" * 100, b"x" * 101, None]}))
    pool = Pool(uri=store.uri)
    (shard,) = shards_of(pool)
    assert [data for *_, data in read(shard, pool, max_bytes=100)] == [
        b"x" * 100,
        Failure("too big: 101 bytes, more than scoring.max_bytes (100)"),
        None,
    ]


def test_ids_that_are_no_text_give_way_to_places(store: Store) -> None:
    ends, data = pa.py_buffer(np.array([0, 2, 5], np.int32)), pa.py_buffer(b"ab\xffcd")
    ids = pa.Array.from_buffers(pa.string(), 2, [None, ends, data])
    store.put("a.parquet", parquet(pa.table({"id": ids, "image": [b"1", b"2"]})))
    pool = Pool(uri=store.uri)
    (group,) = groups_of(pool)
    uri = store.url("a.parquet")
    assert group.ids.to_pylist() == [f"{uri}#0:0", f"{uri}#0:1"]
    found = read(shards_of(pool)[0], pool)
    assert [name for _, name, _, _ in found] == group.ids.to_pylist()
    assert all(isinstance(data, Failure) and "UTF" in data.reason for *_, data in found)


def test_no_damage_loses_a_row_or_raises(tmp_path: Any) -> None:
    """Bytes changed anywhere, mostly in the footer: refused by name, or every listed row comes out once."""
    good = parquet({"id": [f"i{n}" for n in range(40)], "image": [b"%09d" % n for n in range(40)]}, group=13)
    footer = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    chance = random.Random(5)
    store, pool = LocalStore(str(tmp_path)), Pool(uri=str(tmp_path))
    refused = 0
    for attempt in range(400):
        data = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(footer if attempt % 3 else 0, len(good))] = chance.randrange(256)
        store.put("a.parquet", bytes(data))
        try:
            found = groups_of(pool)
        except PoolError:  # the damage hit the name of a column
            refused += 1
            continue
        for shard, group in zip(shards_of(pool), found, strict=True):
            out = read(shard, pool)
            assert [row for row, *_ in out] == list(range(shard.rows))
            assert len(out) == len(group.ids)
    assert refused < 40


@pytest.mark.s3
def test_a_footer_is_read_once_however_many_row_groups_are(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row group of half a megabyte, two columns of it: its bytes alone are asked for, once the footer is known."""
    asked: list[tuple[int, int]] = []
    ask = S3Store._range

    def count(self: S3Store, key: str, first: int, size: int, *, etag: str) -> bytes:
        asked.append((first, size))
        return ask(self, key, first, size, etag=etag)

    monkeypatch.setattr(S3Store, "_range", count)
    store = open_store(s3_bucket, Storage())
    chance = random.Random(0)
    images = [chance.randbytes(5000) for _ in range(1000)]
    data = parquet({"id": [f"i{n}" for n in range(1000)], "image": images}, group=100)
    store.put("a.parquet", data)
    pool = Pool(uri=store.uri)
    shards = shards_of(pool)
    asked.clear()
    pool_parquet._footers.clear()
    found = [data for shard in shards for _, _, _, data in read(shard, pool)]
    assert found == images
    with_footers = len(asked)
    asked.clear()
    assert [data for shard in shards for _, _, _, data in read(shard, pool)] == images
    assert len(asked) == with_footers - 1
    assert not any(first + size == len(data) and size >= NEAR for first, size in asked[:-2])


def test_a_file_that_changed_is_not_read_by_the_footer_of_its_past(store: Store) -> None:
    store.put("a.parquet", parquet(rows("a", "b", "c"), group=2))
    pool = Pool(uri=store.uri)
    before = shards_of(pool)
    assert [name for shard in before for _, name, _, _ in read(shard, pool)] == ["a", "b", "c"]
    store.put("a.parquet", parquet(rows("d", "e", "f", "g"), group=1))
    assert [name for shard in shards_of(pool) for _, name, _, _ in read(shard, pool)] == ["d", "e", "f", "g"]
    for shard in before:
        assert all(isinstance(data, Failure) for _, _, _, data in read(shard, pool))
    assert len(pool_parquet._footers) <= pool_parquet._MOST_FOOTERS


# ----------------------------------------------------------------------------------- files as people write them

IMAGES = [b"%03d" % n for n in range(10)]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def every(pool: Pool, **how: Any) -> dict[str, Any]:
    """All rows; ids with and without images must agree, whatever the budget."""
    shards = shards_of(pool)
    found = {name: data for shard in shards for _, name, _, data in read(shard, pool, **how)}
    ids = [name for group in groups_of(pool) for name in group.ids.to_pylist()]
    assert list(found) == ids == [name for shard in shards for name in ids_of(shard, source_of(pool))]
    return found


@pytest.mark.parametrize("name", ["image", "image.bytes"])
@pytest.mark.parametrize("budget", [1, 1 << 20])
def test_a_data_set_of_hugging_face_is_read_as_it_is(store: Store, name: str, budget: int) -> None:
    images = [{"bytes": data, "path": f"p/{n}.png" if n % 3 else None} for n, data in enumerate(IMAGES)]
    table = pa.table({"image": pa.array(images, STRUCT), "label": [0] * 10})
    store.put("data/train-0.parquet", parquet(table, group=4))
    want = {
        f"p/{n}.png" if n % 3 and name == "image" else f"data/train-0.parquet#{n}": data
        for n, data in enumerate(IMAGES)
    }
    pool = Pool(uri=store.uri, image_column=name)
    assert every(pool, budget=budget) == want
    rule = "the paths of 'image', else object and row" if name == "image" else "object and row"
    assert surveyed(pool).notes == {f"Parquet files name their rows by {rule}": 1}
    assert every(Pool(uri=store.uri, id_column=None)) == {
        f"data/train-0.parquet#{n}": data for n, data in enumerate(IMAGES)
    }
    alone = Pool(uri=store.url("data/train-0.parquet"), id_column=None)
    assert list(every(alone)) == [f"train-0.parquet#{n}" for n in range(10)]


def test_rows_without_ids_are_counted_through_the_file_however_it_is_cut(store: Store) -> None:
    for name, group in (("a", 3), ("b", 10)):
        store.put(f"{name}.parquet", parquet({"image": IMAGES}, group=group))
    assert list(every(Pool(uri=store.uri))) == [f"{name}.parquet#{n}" for name in "ab" for n in range(10)]


FILES: list[dict[str, Any]] = [
    {"id": pa.array([f"i{n}" for n in range(10)]).dictionary_encode(), "image": IMAGES},
    {
        "image": pa.array(IMAGES, pa.large_binary()),
        "id": pa.array([f"i{n}" for n in range(10)], pa.large_string()),
    },
    {
        "id": [f"i{n}".encode() for n in range(10)],
        "more": [1] * 10,
        "image": pa.array(IMAGES).dictionary_encode(),
    },
    {"image": [[data] for data in IMAGES], "id": [[f"i{n}"] for n in range(10)]},
    {
        "image": pa.array(IMAGES, pa.binary_view()),
        "id": pa.array([f"i{n}" for n in range(10)], pa.string_view()),
    },
]


@pytest.mark.parametrize("number", range(len(FILES)))
@pytest.mark.parametrize("schema", [True, False])
def test_the_same_rows_in_other_types_are_the_same_rows(store: Store, number: int, schema: bool) -> None:
    """With the schema that Arrow stores, and without it as other writers do."""
    store.put("a.parquet", parquet(pa.table(FILES[number]), group=4, store_schema=schema))
    assert every(Pool(uri=store.uri)) == {f"i{n}": data for n, data in enumerate(IMAGES)}


def test_files_of_a_pool_may_differ_harmlessly(store: Store) -> None:
    store.put("a.parquet", parquet(pa.table({"id": pa.array([1, 2], pa.int32()), "image": [b"1", b"2"]})))
    store.put(
        "b.parquet", parquet(pa.table({"image": [b"3"], "id": pa.array([3], pa.int64()), "more": ["x"]}))
    )
    store.put("c.parquet", parquet(pa.table({"id": pa.array([4]).dictionary_encode(), "image": [b"4"]})))
    store.put("d.parquet", parquet(pa.table({"id": pa.nulls(0), "image": pa.nulls(0)})))
    store.put("e.parquet", parquet(pa.table({"anything": pa.array([], pa.int8())})))
    pool = Pool(uri=store.uri)
    assert every(pool) == {str(n): b"%d" % n for n in range(1, 5)}
    assert surveyed(pool).left == {"Parquet files without rows": 2}
    check_pool(source_of(pool))


def test_tables_beside_the_images_are_counted(store: Store) -> None:
    """As img2dataset writes them, with an image folder of Hugging Face, and of a Delta table."""
    store.put("00000.parquet", parquet({"url": ["u"], "key": ["k"]}))
    store.put("a.png", b"a")
    store.put("metadata.parquet", parquet({"file_name": ["a.png"], "text": ["a"]}))
    store.put("t/_delta_log/00000000000000000010.checkpoint.parquet", parquet({"txn": ["a"]}))
    store.put("t/_temporary/0/part-0.parquet", parquet(rows("t0")))
    store.put("t/part-0.parquet", parquet(rows("t0")))
    pool = Pool(uri=store.uri)
    check_pool(source_of(pool))
    assert every(pool) == {"a.png": b"a", "t0": b"t0"}
    assert surveyed(pool).left == {
        "Parquet files without a column 'image' or any other of images": 2,
        "objects in _delta_log": 1,
        "objects in _temporary": 1,
    }


def test_a_pool_of_nothing_but_such_tables_is_refused(store: Store) -> None:
    store.put("a.parquet", parquet({"url": ["u"], "key": ["k"]}))
    with pytest.raises(
        PoolError, match=r"pool\.image_column: .*a\.parquet has no column 'image'; known: key, url"
    ):
        check_pool(source_of(Pool(uri=store.uri)))


def test_rows_that_hold_no_single_image_say_why(store: Store) -> None:
    images = [{"bytes": None, "path": "away.png"}, {"bytes": b"1", "path": "a.png"}]
    store.put("a.parquet", parquet(pa.table({"id": ["x", "y"], "image": pa.array(images, STRUCT)})))
    store.put("b.parquet", parquet({"id": ["z"], "image": [[b"1", b"2"]]}))
    assert every(Pool(uri=store.uri)) == {
        "x": Failure("no bytes: only a path, 'away.png'"),
        "y": b"1",
        "z": Failure("broken: a list of 2 images, not of one"),
    }


@pytest.mark.parametrize("budget", [1, 1 << 20])
def test_metadata_come_with_their_rows(store: Store, budget: int) -> None:
    table = rows("a", "b", "c") | {"camera": ["x", None, "z"]}
    store.put("day=1/a.parquet", parquet(pa.table(table), group=2))
    pool = Pool(uri=store.uri, metadata=("day", "camera"))
    found = [
        (name, piece.facts(i))
        for shard in shards_of(pool)
        for piece in pieces(shard, reading(pool, budget=budget))
        for i, name in enumerate(piece.ids)
    ]
    assert found == [("a", ("1", "x")), ("b", ("1", None)), ("c", ("1", "z"))]
    (last,) = (piece for piece in pieces(shards_of(pool)[0], reading(pool), {1}) if piece.ids)
    assert (last.ids, last.metadata) == (["b"], [("1", None)])


def test_rows_that_all_hold_one_image_are_read_a_few_at_a_time(tmp_path: Any) -> None:
    """A dictionary holds the image once, and so its size says little of what the rows take."""
    image = random.Random(0).randbytes(900_000)
    store = LocalStore(str(tmp_path))
    store.put("a.parquet", parquet({"id": list(range(300)), "image": [image] * 300}))
    pool = Pool(uri=store.uri)
    (shard,) = shards_of(pool)
    for piece in pieces(shard, reading(pool)):
        assert sum(len(data) for data in piece.images if isinstance(data, bytes)) <= 64 << 20
    assert [data == image for *_, data in read(shard, pool)] == [True] * 300
