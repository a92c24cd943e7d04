"""Images as objects of their own: runs of keys are shards, keys are ids, and what is gone is a row with a reason."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.sections import Pool, Storage
from pipeline.pool.pieces import Failure
from pipeline.pool.shards import ids_of, pieces
from pipeline.store.opening import LocalStore, S3Store, Store, open_store
from tests.support.pools import groups_of, read, reading, shards_of, source_of


def keys_of(pool: Pool) -> list[list[str]]:
    return [group.ids.to_pylist() for group in groups_of(pool)]


@pytest.mark.parametrize(("size", "want"), [(1, [1] * 5), (2, [2, 2, 1]), (4, [4, 1]), (5, [5]), (9, [5])])
def test_a_shard_is_a_run_of_keys(store: Store, size: int, want: list[int]) -> None:
    for name in "ebadc":
        store.put(f"{name}.png", name.encode())
    found = keys_of(Pool(uri=store.uri, images_per_shard=size))
    assert [len(ids) for ids in found] == want
    assert list(itertools.chain(*found)) == ["a.png", "b.png", "c.png", "d.png", "e.png"]


def test_keys_are_in_the_order_of_their_bytes(store: Store) -> None:
    names = [
        "a0.png",
        "a/z.png",
        "a-b.png",
        "B.png",
        "a.png",
        "é.png",
        "z.png",
        "a/é.png",
        "\U0001f431.png",
        "ｚ.png",
    ]
    for name in names:
        store.put(name, b"x")
    (found,) = keys_of(Pool(uri=store.uri))
    assert found == sorted(names, key=str.encode)


ODD = ["with space.png", "100%.png", "%41.png", "a+b&c=d.png", "#1.png", "?q.png", "tab\t.png",
       "naïve/日本 語.png", "'quote\".png", "back\\slash.png", "a:b.png", "~.png", "sure.PNG"]  # fmt: skip


def test_odd_keys_are_ids_as_they_stand(store: Store) -> None:
    odd = ODD if isinstance(store, S3Store) else [*ODD, "line\nbreak.png"]  # moto finds no way to this one
    for name in odd:
        store.put(name, name.encode())
    pool = Pool(uri=store.uri)
    (shard,) = shards_of(pool)
    found = read(shard, pool)
    assert [name for _, name, _, _ in found] == sorted(odd, key=str.encode)
    assert all(data == name.encode() and uri == store.url(name) for _, name, uri, data in found)
    assert ids_of(shard, source_of(pool)) == sorted(odd, key=str.encode)


@pytest.mark.s3
@pytest.mark.parametrize("below", ["", "/deep", "/50%/a b"])
def test_slashes_that_only_s3_holds(s3_bucket: str, below: str) -> None:
    store: Any = open_store(f"{s3_bucket}{below}", Storage())
    assert isinstance(store, S3Store)
    keys = ["a//b.png", "/top.png", "./c.png", "../d.png", "e.png"]
    for key in keys:
        store.client.put_object(Bucket=store.bucket, Key=store.prefix + key, Body=key.encode())
    pool = Pool(uri=store.uri)
    (shard,) = shards_of(pool)
    found = {name: data for _, name, _, data in read(shard, pool)}
    assert found == {key: key.encode() for key in keys}


def test_a_name_that_is_no_text_is_listed_and_not_found(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    with open(folder + b"/\xff.png", "wb") as file:  # noqa: PTH123 - a path of bytes
        file.write(b"x")
    pool = Pool(uri=str(tmp_path))
    (shard,) = shards_of(pool)
    assert [(name, data) for _, name, _, data in read(shard, pool)] == [
        ("\\xff.png", Failure("vanished since the pool was listed"))
    ]


def test_what_changed_or_vanished_since_is_not_read(store: Store) -> None:
    for name in "abcd":
        store.put(f"{name}.png", name.encode())
    pool = Pool(uri=store.uri)
    (shard,) = shards_of(pool)
    store.put("b.png", b"another")
    store.delete("c.png")
    want = [
        b"a",
        Failure("changed since the pool was listed"),
        Failure("vanished since the pool was listed"),
        b"d",
    ]
    assert [data for *_, data in read(shard, pool)] == want
    assert [name for _, name, _, _ in read(shard, pool)] == ["a.png", "b.png", "c.png", "d.png"]


def test_what_is_too_big_is_not_even_read(store: Store) -> None:
    store.put("a.png", b"x" * 100)
    store.put("b.png", b"x" * 101)
    store.put("c.png", b"")
    pool = Pool(uri=store.uri)
    (shard,) = shards_of(pool)
    store.delete("b.png")  # nobody notices
    assert [data for *_, data in read(shard, pool, max_bytes=100)] == [
        b"x" * 100,
        Failure("too big: 101 bytes, more than scoring.max_bytes (100)"),
        b"",
    ]


def test_a_single_image_that_changed(store: Store) -> None:
    store.put("one.png", b"1")
    pool = Pool(uri=store.url("one.png"))
    (shard,) = shards_of(pool)
    store.put("one.png", b"another")
    assert [data for *_, data in read(shard, pool)] == [Failure("changed since the pool was listed")]


def test_a_storage_that_does_not_answer_is_worth_another_try(tmp_path: Path, monkeypatch: Any) -> None:
    """A disk that fails under one file: what the disk says is of the system, not of the image."""
    LocalStore(str(tmp_path)).put("a.png", b"a")
    LocalStore(str(tmp_path)).put("b.png", b"b")
    pool = Pool(uri=str(tmp_path))
    (shard,) = shards_of(pool)
    whole = Path.open

    def fails(path: Path, *args: Any, **more: Any) -> Any:
        if path.name == "a.png":
            raise OSError(5, "Input/output error")
        return whole(path, *args, **more)

    monkeypatch.setattr(Path, "open", fails)
    first, second = (data for *_, data in read(shard, pool))
    assert first == Failure("storage did not answer", 1)
    assert second == b"b"


def test_folders_tell_the_metadata_of_images(store: Store) -> None:
    for key in ("camera=3/a.png", "camera=4/day=x/b.png", "c.png"):
        store.put(key, b"1")
    pool = Pool(uri=store.uri, metadata=("camera", "day"))
    (shard,) = shards_of(pool)
    (piece,) = pieces(shard, reading(pool))
    assert dict(zip(piece.ids, piece.metadata, strict=True)) == {
        "c.png": (None, None),
        "camera=3/a.png": ("3", None),
        "camera=4/day=x/b.png": ("4", "x"),
    }
    assert next(pieces(shard, reading(Pool(uri=store.uri)))).metadata == []
