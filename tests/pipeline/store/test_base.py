"""The contract of a store, on disk and on S3."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.sections import Storage
from pipeline.errors import ArtefactMissing, ObjectChanged, StorageError, SystemFault
from pipeline.store.opening import Store, open_store

STRANGE_KEYS = [
    "a b",
    "50%25.parquet",
    "a%2Fb",
    "x#y?z",
    "grüße/猫",
    "a+b&c=d",
    "{'quotes'}",
    "-",
]


def keys(store: Store, prefix: str = "") -> list[str]:
    return [entry.key for entry in store.list(prefix)]


def all_at_once(count: int, job: Callable[[int], bool]) -> list[int]:
    """Run a job in many threads that start together; who said true."""
    gate = threading.Barrier(count)
    winners: list[int] = []

    def one(number: int) -> None:
        gate.wait()
        if job(number):
            winners.append(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return winners


def test_what_is_put_is_got(store: Store) -> None:
    store.put("a/b.bin", b"one")
    assert store.get("a/b.bin") == b"one"
    store.put("a/b.bin", b"")
    assert store.get("a/b.bin") == b""
    assert store.exists("a/b.bin")
    assert [(entry.key, entry.size) for entry in store.list()] == [("a/b.bin", 0)]
    store.delete("a/b.bin")
    assert not store.exists("a/b.bin")
    store.delete("a/b.bin")


@pytest.mark.parametrize("key", STRANGE_KEYS)
def test_keys_of_any_kind_come_back_through_their_uri(store: Store, key: str) -> None:
    store.put("a/b", b"another")
    store.put(key, b"this")
    assert store.get(key) == b"this"
    assert key in keys(store)
    with open_store(store.url(key), Storage()).open("") as file:
        assert file.read() == b"this"


@pytest.mark.parametrize("key", ["../x", "a/../../x", "..", "", "/x", "a//b", "./a", "a/.", "a\0b"])
def test_a_key_does_not_leave_its_store(store: Store, key: str) -> None:
    outside = open_store(f"{store.uri.rpartition('/')[0]}", Storage())
    outside.put("x", b"outside")
    with pytest.raises(StorageError):
        store.put(key, b"inside")
    with pytest.raises((StorageError, ArtefactMissing)):  # S3 takes any text for a key: it is not there
        store.get(key)
    assert outside.get("x") == b"outside"


def test_listing_is_in_the_order_of_the_keys(store: Store) -> None:
    # "-" < "." < "/" < "0": a folder's files stand where its slash puts them.
    want = ["a-b", "a.b", "a/b/c", "a/x", "a0", "ab", "b"]
    for key in reversed(want):
        store.put(key, b"")
    assert keys(store) == want == sorted(want)


@pytest.mark.parametrize(
    ("prefix", "want"),
    [
        ("", ["rounds/000/x", "rounds/001/x", "rounds/001/y/z", "rounds.txt", "scores"]),
        ("rounds", ["rounds/000/x", "rounds/001/x", "rounds/001/y/z", "rounds.txt"]),
        ("rounds/", ["rounds/000/x", "rounds/001/x", "rounds/001/y/z"]),
        ("rounds/00", ["rounds/000/x", "rounds/001/x", "rounds/001/y/z"]),
        ("rounds/001", ["rounds/001/x", "rounds/001/y/z"]),
        ("rounds/001/y", ["rounds/001/y/z"]),
        ("scores", ["scores"]),
        ("scores/", []),
        ("nothing", []),
    ],
)
def test_a_prefix_need_not_be_a_folder(store: Store, prefix: str, want: list[str]) -> None:
    for key in ["rounds/000/x", "rounds/001/x", "rounds/001/y/z", "rounds.txt", "scores"]:
        store.put(key, b"")
    assert sorted(keys(store, prefix)) == sorted(want)
    assert keys(store, prefix) == sorted(keys(store, prefix))


def test_names_with_a_dot_in_front_are_never_listed(store: Store) -> None:
    for key in ["a", ".hidden", "b/.tmp", ".git/config", "b/c.d"]:
        store.put(key, b"")
    assert keys(store) == ["a", "b/c.d"]


def test_an_empty_place_lists_nothing(store: Store) -> None:
    assert keys(store) == []


def test_a_uri_may_name_one_object(store: Store) -> None:
    store.put("folder/one.parquet", b"12345")
    store.put("folder/one.parquet.bak", b"")
    one = open_store(store.url("folder/one.parquet"), Storage())
    assert [(entry.key, entry.size) for entry in one.list()] == [("", 5)]
    assert one.url("") == store.url("folder/one.parquet")
    with one.open("") as file:
        assert file.read() == b"12345"


def test_a_tag_changes_with_the_content(store: Store) -> None:
    store.put("k", b"one")
    data, first = store.get_tagged("k")
    store.put("k", b"two")
    assert data == b"one"
    assert store.get_tagged("k")[1] != first


def test_listed_tags_change_when_an_object_is_replaced(store: Store) -> None:
    store.put("k", b"one")
    (before,) = store.list()
    store.put("k", b"three")
    (after,) = store.list()
    assert before.etag != after.etag
    assert (before.size, after.size) == (3, 5)


def test_a_listed_version_is_read_or_nothing(store: Store) -> None:
    store.put("a/k", b"one")
    (entry,) = store.list()
    assert store.get("a/k", etag=entry.etag) == b"one"
    with store.open("a/k", etag=entry.etag, size=entry.size) as file:
        assert file.read() == b"one"
    store.put("a/k", b"other")
    for read in (
        lambda: store.get("a/k", etag=entry.etag),
        lambda: store.open("a/k", etag=entry.etag),
        lambda: store.open("a/k", size=entry.size),
        lambda: store.open("a/k", etag=entry.etag, size=entry.size).read(),
    ):
        with pytest.raises(ObjectChanged) as raised:
            read()
        assert raised.value.uri == store.url("a/k")
        assert isinstance(raised.value, SystemFault)
    store.delete("a/k")
    with pytest.raises(ArtefactMissing):
        store.get("a/k", etag=entry.etag)
    with pytest.raises(ArtefactMissing):
        store.open("a/k", etag=entry.etag, size=entry.size).read()


@pytest.mark.parametrize("prefix", ["", "a", "a-b", "a/", "a/b", "a/b/c", "a/bb", "a0", "a/z", "b", "c"])
def test_a_listing_has_the_keys_behind_any_prefix_in_order(store: Store, prefix: str) -> None:
    names = ["a-b", "a.b", "a/b/c", "a/x", "a0", "ab", "b"]
    for key in names:
        store.put(key, b"")
    assert keys(store, prefix) == [key for key in names if key.startswith(prefix)]


def test_of_many_that_create_one_wins(store: Store) -> None:
    winners = all_at_once(16, lambda n: store.put_if_absent("k", b"%d" % n))
    assert len(winners) == 1
    assert store.get("k") == b"%d" % winners[0]
    assert keys(store) == ["k"]


def test_of_many_that_replace_one_wins(store: Store) -> None:
    store.put("k", b"before")
    tag = store.get_tagged("k")[1]
    winners = all_at_once(16, lambda n: store.put_if_match("k", b"%d" % n, tag))
    assert len(winners) == 1
    assert store.get("k") == b"%d" % winners[0]


def test_a_replacement_needs_the_tag_that_is_there(store: Store) -> None:
    assert not store.put_if_match("deep/k", b"new", "no-such-tag")
    assert not store.exists("deep/k")
    store.put("deep/k", b"old")
    tag = store.get_tagged("deep/k")[1]
    assert store.put_if_match("deep/k", b"new", tag)
    assert not store.put_if_match("deep/k", b"newer", tag)
    assert store.get("deep/k") == b"new"


def test_parquet_is_read_in_pieces(store: Store) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": range(100), "text": ["x" * 50] * 100}), sink, row_group_size=10)
    store.put("t.parquet", sink.getvalue())
    with store.open("t.parquet") as file:
        assert file.seekable()
        assert pq.ParquetFile(file).read_row_group(3, columns=["n"])["n"].to_pylist() == list(range(30, 40))


def test_an_empty_object_opens(store: Store) -> None:
    store.put("empty", b"")
    with store.open("empty") as file:
        assert file.read() == b""


@pytest.mark.parametrize("missing", ["no", "a/no", "a", "a/b/c"])
def test_what_is_not_there_is_said_with_its_uri(store: Store, missing: str) -> None:
    store.put("a/b", b"")
    for read in (store.get, store.get_tagged, store.open):
        with pytest.raises(ArtefactMissing) as raised:
            read(missing)
        assert raised.value.uri == store.url(missing)
        assert isinstance(raised.value, SystemFault)
    assert not store.exists(missing)
