"""The pool's listing: what is a shard, in which order, and what is refused."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import Pool, Storage
from pipeline.errors import ArtefactMissing, PoolError
from pipeline.pool import list_shards, read_shard, shards_of, snapshot_table
from pipeline.storage import Store
from pipeline.types import SNAPSHOT, Shard


def parquet(table: pa.Table | dict[str, Any], group: int = 1000) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), sink, row_group_size=group)
    return sink.getvalue()


def rows(*ids: Any) -> dict[str, Any]:
    return {"id": list(ids), "image": [f"{name}".encode() for name in ids]}


def listed(store: Store, **columns: str) -> list[Shard]:
    return list(list_shards(Pool(uri=store.uri, **columns), Storage()))


def ids_of(store: Store, shard: Shard) -> list[str]:
    found: list[str] = read_shard(shard, Pool(uri=store.uri), Storage())["id"].to_pylist()
    return found


def test_row_groups_become_shards_in_the_order_of_the_keys(store: Store) -> None:
    store.put("b.parquet", parquet(rows("b0", "b1", "b2"), group=2))
    store.put("a/z.parquet", parquet(rows("z0")))
    store.put("a-first.parquet", parquet(rows("f0", "f1")))
    store.put("readme.txt", b"not a piece of the pool")
    store.put(".tmp.parquet", b"nor this")
    shards = listed(store)
    assert [(s.shard, s.uri.removeprefix(f"{store.uri}/"), s.row_group, s.rows) for s in shards] == [
        (0, "a-first.parquet", 0, 2),
        (1, "a/z.parquet", 0, 1),
        (2, "b.parquet", 0, 2),
        (3, "b.parquet", 1, 1),
    ]
    assert [ids_of(store, shard) for shard in shards] == [["f0", "f1"], ["z0"], ["b0", "b1"], ["b2"]]
    assert all(shard.size > 0 and shard.etag for shard in shards)
    assert shards_of(snapshot_table(shards)) == shards
    assert snapshot_table(shards).schema == SNAPSHOT


def test_a_uri_may_name_one_file(store: Store) -> None:
    store.put("one 50%25.parquet", parquet(rows("a")))
    (shard,) = list_shards(Pool(uri=store.url("one 50%25.parquet")), Storage())
    assert ids_of(store, shard) == ["a"]


def test_row_groups_without_rows_are_no_shards(store: Store) -> None:
    store.put("a.parquet", parquet({"id": pa.array([], pa.string()), "image": pa.array([], pa.binary())}))
    store.put("b.parquet", parquet(rows("x")))
    assert [(shard.shard, shard.rows) for shard in listed(store)] == [(0, 1)]


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ({}, r"(does not exist|is empty)"),
        ({"readme.txt": b"x"}, r"holds no file that ends in \.parquet, but 'readme\.txt'"),
        ({"e.parquet": b""}, "holds Parquet files without rows"),
    ],
)
def test_an_empty_pool_is_refused(store: Store, there: dict[str, bytes], why: str) -> None:
    for key, data in there.items():
        if key == "e.parquet":
            data = parquet({"id": pa.array([], pa.string()), "image": pa.array([], pa.binary())})
        store.put(key, data)
    with pytest.raises(PoolError, match=rf"pool\.uri: .* {why}") as raised:
        listed(store)
    assert store.uri in str(raised.value)


GOOD = parquet(rows(*range(1000)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"PAR1" + b"\x15" * 100 + (60).to_bytes(4, "little") + b"PAR1",  # a footer of noise
        GOOD[: len(GOOD) // 2],
        b"PAR1" * 3,
    ],
)
def test_what_is_not_parquet_is_refused_by_name(store: Store, data: bytes) -> None:
    store.put("a.parquet", GOOD)
    store.put("broken.parquet", data)
    with pytest.raises(PoolError, match=r"broken\.parquet: not a Parquet file") as raised:
        listed(store)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"idd": ["a"], "image": [b""]}, r"pool\.id_column: .*a\.parquet has no column 'id'; did you mean idd\?"),
        ({"id": ["a"], "img": [b""]}, r"pool\.image_column: .*no column 'image'; did you mean img\?"),
        ({"id": ["a"], "image": ["text"]}, r"pool\.image_column: 'image' in .* is string, expected encoded bytes"),
        ({"id": ["a"], "image": [{"bytes": b""}]}, r"pool\.image_column: .* is struct<bytes: binary>, expected"),
        ({"id": [1.5], "image": [b""]}, r"pool\.id_column: 'id' in .* is double, expected text or integers"),
        ({"id": [b"a"], "image": [b""]}, r"pool\.id_column: 'id' in .* is binary, expected text or integers"),
        (pa.table([["a"], ["b"], [b""]], names=["id", "id", "image"]), r"pool\.id_column: .* has 2 columns 'id'"),
    ],
)  # fmt: skip
def test_columns_that_do_not_fit_are_refused(store: Store, table: Any, message: str) -> None:
    store.put("a.parquet", parquet(table))
    with pytest.raises(PoolError, match=message):
        listed(store)


def test_the_columns_are_the_configs(store: Store) -> None:
    store.put("a.parquet", parquet({"key": ["a"], "png": [b"1"], "extra": [1]}))
    (shard,) = listed(store, id_column="key", image_column="png")
    pool = Pool(uri=store.uri, id_column="key", image_column="png")
    assert read_shard(shard, pool, Storage()).to_pylist() == [{"id": "a", "image": b"1"}]
    assert read_shard(shard, pool, Storage(), images=False).to_pylist() == [{"id": "a"}]


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.uint64(), pa.int64(), pa.large_string(), pa.string_view(), pa.string()]
)
def test_ids_of_any_kind_become_text_and_null_ids_get_a_place(store: Store, kind: pa.DataType) -> None:
    values = [7, None, 9, None] if pa.types.is_integer(kind) else ["7", None, "9", None]
    table = pa.table({"id": pa.array(values, kind), "image": pa.array([b"x"] * 4, pa.large_binary())})
    store.put("a.parquet", parquet(table, group=2))
    first, second = listed(store)
    uri = store.url("a.parquet")
    assert ids_of(store, first) == ["7", f"{uri}#0:1"]
    assert ids_of(store, second) == ["9", f"{uri}#1:1"]


def test_a_file_that_changed_since_it_was_listed_is_not_read(store: Store) -> None:
    store.put("a.parquet", parquet(rows("a", "b", "c"), group=2))
    first, second = listed(store)
    store.put("a.parquet", parquet(rows("a", "b")))
    assert ids_of(store, first) == ["a", "b"]
    with pytest.raises(ArtefactMissing, match=r"a\.parquet#1: its 1 rows have changed"):
        ids_of(store, second)
    store.put("a.parquet", parquet(rows("a", "b", "c")))
    with pytest.raises(ArtefactMissing, match=r"a\.parquet#0: its 2 rows have changed"):
        ids_of(store, first)
    store.delete("a.parquet")
    with pytest.raises(ArtefactMissing) as raised:
        ids_of(store, first)
    assert raised.value.uri == store.url("a.parquet")


def test_a_file_whose_bytes_broke_names_its_place(store: Store) -> None:
    noise = bytes(range(256)) * 20
    data = bytearray(parquet({"id": ["a"], "image": [noise]}))
    (shard,) = listed_after(store, bytes(data))
    pages = slice(4, len(data) // 2)
    data[pages] = b"\xff" * len(data[pages])
    store.put("a.parquet", bytes(data))
    with pytest.raises(PoolError, match=r"a\.parquet#0: cannot be read"):
        ids_of(store, shard)


def listed_after(store: Store, data: bytes) -> list[Shard]:
    store.put("a.parquet", data)
    return listed(store)
