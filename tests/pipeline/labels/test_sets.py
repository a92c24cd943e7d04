"""Labeled images outside the pool: their ids, classes and places."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.project import Config
from pipeline.errors import LabelError, PoolError
from pipeline.labels.sets import read_sets
from pipeline.store.opening import Store
from tests.support.pools import png

MakeConfig = Callable[..., Config]
Sets = Callable[..., list[tuple[str, str | None, int, int]]]


@pytest.fixture
def sets(store: Store, make_config: MakeConfig) -> Sets:
    """Reads the sets that lie in folders of the store."""

    def read(*names: str, **more: Any) -> list[tuple[str, str | None, int, int]]:
        given = [{"uri": store.url(name), **more} for name in names]
        config = make_config(labels={"sets": given, "renamed": {"hound": "dog"}}, pool={"uri": "unused"})
        return [row for listing in read_sets(config, config.taxonomy) for row in listing.rows()]

    return read


def put(store: Store, *keys: str) -> None:
    for i, key in enumerate(keys):
        store.put(key, png(i))


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, row_group_size=2)
    return sink.getvalue()


def test_folders_are_named_after_their_classes(store: Store, sets: Sets) -> None:
    put(store, "s/cat/1.png", "s/cat/2.png", "s/hound/1.jpg")
    assert sets("s") == [("cat/1.png", "cat", 0, 0), ("cat/2.png", "cat", 0, 1), ("hound/1.jpg", "dog", 0, 2)]


def test_a_table_beside_images_says_their_classes(store: Store, sets: Sets) -> None:
    put(store, "s/1.png", "s/a/2.png", "s/3.png")
    store.put("s/labels.csv", b"sep=;\nID;Label\n1.png;cat\na/2.png;hound\n")
    assert sets("s") == [("1.png", "cat", 0, 0), ("3.png", None, 0, 1), ("a/2.png", "dog", 0, 2)]
    put(store, "t/9.png")
    store.put("t/metadata.jsonl", b'{"file_name": "9.png", "class": "cat"}')
    assert sets("t", id_column="file_name", label_column="class") == [("9.png", "cat", 0, 0)]


def test_parquet_has_a_column_of_classes(store: Store, sets: Sets) -> None:
    data = parquet(id=["a", "b", "c"], image=[png(i) for i in range(3)], label=["cat", None, "hound"])
    store.put("s/x.parquet", data)
    assert sets("s") == [("a", "cat", 0, 0), ("b", None, 0, 1), ("c", "dog", 1, 0)]
    store.put("t/x.parquet", parquet(key=["a"], picture=[png(1)], target=["dog"]))
    other = {"id_column": "key", "image_column": "picture", "label_column": "target"}
    assert sets("t", **other) == [("a", "dog", 0, 0)]


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({}, PoolError, r"labels\.sets: .*s: no \.parquet, \.tar or image is there"),
        ({"1.png": b"x"}, LabelError, "'1.png' lies in no folder that is named after a class"),
        ({"owl/1.png": b"x"}, LabelError, r"'owl/1.png' has the label 'owl', which is not in the taxonomy"),
        (
            {"1.png": b"x", "a.csv": b"id,label\n2.png,cat\n"},
            LabelError,
            r"a\.csv, row 2: no image '2.png'; did you",
        ),
        ({"1.png": b"x", "a.csv": b"id,label\n1.png,\n"}, LabelError, r"a\.csv: holds no label"),
        ({"1.png": b"x", "a.csv": b"id,label\n1.png\n"}, LabelError, r"a\.csv, row 2: 1 cells under 2 names"),
        (
            {"1.png": b"x", "a.csv": b"id,label\n1.png,cat\n1.png,dog\n"},
            LabelError,
            r"a\.csv, row 3: '1.png' is 'dog' here, and 'cat' before",
        ),
        ({"1.png": b"x", "a.csv": b"id,label\n", "b.csv": b""}, LabelError, "2 tables lie beside the images"),
        ({"1.png": b"x", "a.parquet": b""}, PoolError, "holds Parquet files and images"),
        (
            {"a.parquet": parquet(id=["a"], image=[b""], lable=["cat"])},
            PoolError,
            "no column 'label'; did you mean lable",
        ),
    ],
)
def test_a_set_that_can_not_be_told_is_refused(
    store: Store, sets: Sets, files: dict[str, bytes], error: type[Exception], message: str
) -> None:
    for key, data in files.items():
        store.put(f"s/{key}", data)
    with pytest.raises(error, match=message):
        sets("s")


def test_ids_of_all_sets_are_unique(store: Store, sets: Sets) -> None:
    put(store, "s/cat/1.png", "t/cat/1.png", "t/cat/2.png")
    with pytest.raises(LabelError, match=r"id 'cat/1.png' stands in .*s before; ids must be unique"):
        sets("s", "t")
