"""Columns as people write them: ids and images in every type that holds such."""

from __future__ import annotations

import io
import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.sections import Pool
from pipeline.errors import NoImageColumn, PoolError
from pipeline.pool.columns import Columns, as_text, columns_of
from pipeline.pool.pieces import Failure
from pipeline.pool.shards import check_pool, ids_of
from pipeline.store.opening import Store
from tests.support.pools import read, shards_of, source_of

PICTURES = [b"one", b"two", b"three"]
UUIDS = [uuid.UUID(int=i) for i in range(3)]


def written(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def seen(store: Store, data: bytes, **changes: Any) -> dict[str, bytes | Failure | None]:
    """Each id with its image; listing, reading and looking up must agree."""
    store.put("a.parquet", data)
    pool = Pool(uri=store.uri, **changes)
    check_pool(source_of(pool))
    (shard,) = shards_of(pool)
    rows = read(shard, pool)
    assert [name for _, name, _, _ in rows] == ids_of(shard, source_of(pool))
    return {name: image for _, name, _, image in rows}


HUGGING_FACE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FACES = pa.array([{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(PICTURES)], HUGGING_FACE)


@pytest.mark.parametrize("column", ["image", "image.bytes"])
def test_hugging_faces_images_are_named_by_their_paths(store: Store, column: str) -> None:
    found = seen(store, written(image=FACES, label=[0, 1, 2]), image_column=column)
    assert found == {"0.png": b"one", "1.png": b"two", "2.png": b"three"}


def test_an_id_column_goes_before_the_paths(store: Store) -> None:
    assert list(seen(store, written(id=["a", "b", "c"], image=FACES))) == ["a", "b", "c"]


def test_without_any_name_a_row_is_named_by_its_place(store: Store) -> None:
    found = seen(store, written(image=PICTURES))
    uri = store.url("a.parquet")
    assert found == {f"{uri}#0:{row}": data for row, data in enumerate(PICTURES)}
    missing = pa.array([{"bytes": b"one", "path": None}, None], HUGGING_FACE)
    found = seen(store, written(image=missing))
    assert found == {f"{uri}#0:0": b"one", f"{uri}#0:1": None}


@pytest.mark.parametrize(
    "images",
    [
        pa.array(PICTURES, pa.large_binary()),
        pa.array(PICTURES, pa.binary_view()),
        pa.array(PICTURES).dictionary_encode(),
        pa.array([[data] for data in PICTURES], pa.list_(pa.binary())),
        pa.array([{"data": data} for data in PICTURES], pa.struct([("data", pa.binary())])),
    ],
    ids=["large", "view", "dictionary", "list of one", "field"],
)
def test_images_in_every_type_of_bytes(store: Store, images: pa.Array) -> None:
    column = "image.data" if pa.types.is_struct(images.type) else "image"
    found = seen(store, written(id=["a", "b", "c"], image=images), image_column=column)
    assert list(found.values()) == PICTURES


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (pa.array([7, 8, 9], pa.uint64()), ["7", "8", "9"]),
        (pa.array(["x", "y", "x y"]).dictionary_encode(), ["x", "y", "x y"]),
        (pa.array([Decimal(5), Decimal(6), Decimal(10**20)], pa.decimal128(38, 0)), ["5", "6", str(10**20)]),
        (pa.array([Decimal("5.00"), Decimal("6.00"), Decimal("7.00")], pa.decimal128(10, 2)), ["5", "6", "7"]),
        (pa.array([b"a", b"b", "ü".encode()]), ["a", "b", "ü"]),
        (pa.array([each.bytes for each in UUIDS[1:]] + [b"\xff" * 16], pa.binary(16)),
         [str(each) for each in (*UUIDS[1:], uuid.UUID(bytes=b"\xff" * 16))]),
        (pa.array([["a"], ["b"], ["c"]]), ["a", "b", "c"]),
        (pa.array(["a", "b", "c"], pa.large_string()), ["a", "b", "c"]),
        (pa.array(["a", "b", "c"], pa.string_view()), ["a", "b", "c"]),
    ],
    ids=["unsigned", "dictionary", "decimal", "decimal with zeros", "bytes", "uuid", "list of one", "large", "view"],
)  # fmt: skip
def test_ids_in_every_type_of_text_and_numbers(store: Store, ids: pa.Array, names: list[str]) -> None:
    if pa.types.is_fixed_size_binary(ids.type):  # these are text too, of control codes
        names = [each.bytes.decode() for each in UUIDS[1:]] + names[-1:]
    assert list(seen(store, written(id=ids, image=PICTURES))) == names


def test_uuids_have_their_usual_form() -> None:
    column = pa.array([each.bytes for each in UUIDS], pa.uuid()) if hasattr(pa, "uuid") else None
    if column is None:
        pytest.skip("this pyarrow has no type of UUIDs")
    assert as_text(column).to_pylist() == [str(each) for each in UUIDS]


@pytest.mark.parametrize("value", [pa.array([Decimal("1.5")]), pa.array([b"\xff\xfe"])])
def test_what_is_no_name_is_refused(value: pa.Array) -> None:
    with pytest.raises(pa.ArrowInvalid):
        as_text(value)


def test_files_without_rows_may_have_any_columns(store: Store) -> None:
    store.put("empty.parquet", written(id=pa.array([], pa.null()), image=pa.array([], pa.null())))
    assert list(seen(store, written(id=["a", "b", "c"], image=PICTURES))) == ["a", "b", "c"]


def test_schemas_may_differ_harmlessly(store: Store) -> None:
    store.put(
        "b.parquet", written(image=pa.array(PICTURES, pa.large_binary()), id=pa.array([1, 2, 3], pa.int32()))
    )
    store.put("a.parquet", written(id=pa.array([4, 5, 6], pa.int64()), day=["x"] * 3, image=PICTURES))
    pool = Pool(uri=store.uri)
    names = [name for shard in shards_of(pool) for name in ids_of(shard, source_of(pool))]
    assert names == ["4", "5", "6", "1", "2", "3"]


def test_what_lacks_images_says_so_apart() -> None:
    schema = pa.schema([("id", pa.string()), ("caption", pa.string())])
    with pytest.raises(NoImageColumn, match="has no column 'image'"):
        columns_of(schema, Pool(uri="x"), "a.parquet")
    with pytest.raises(PoolError, match="has no column 'name'"):
        columns_of(pa.schema([("image", pa.binary())]), Pool(uri="x", id_column="name"), "a.parquet")
    assert columns_of(pa.schema([("image", pa.binary())]), Pool(uri="x"), "a.parquet") == Columns(
        "image", None
    )
