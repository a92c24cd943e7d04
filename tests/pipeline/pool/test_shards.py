"""Shards of a pool: three forms side by side, equal rows however they are read."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.sections import Pool
from pipeline.errors import PoolError, StorageError
from pipeline.pool.inventory.found import digest_of
from pipeline.pool.parquet import MOVED
from pipeline.pool.pieces import Failure
from pipeline.pool.shards import check_pool, form_of, ids_of, pieces, survey, units
from pipeline.store.opening import Store
from pipeline.types import Shard
from tests.support.pools import (
    groups_of,
    images_by_id,
    parquet,
    read,
    reading,
    rows,
    shards_of,
    source_of,
    surveyed,
    tar,
)

EMPTY = {"id": pa.array([], pa.string()), "image": pa.array([], pa.binary())}


@pytest.fixture
def mixed(store: Store) -> Pool:
    """All forms side by side."""
    store.put("a.png", b"a")
    store.put("b.parquet", parquet(rows("p0", "p1", "p2"), group=2))
    store.put("c/1.jpg", b"c1")
    store.put("c/2.JPEG", b"c2")
    store.put("c/3.webp", b"c3")
    store.put("c/notes.txt", b"not a piece of the pool")
    store.put("d.tar", tar({"t0.png": b"t0", "t0.json": b"{}", "t1.png": b"t1"}))
    store.put("e.png", b"e")
    store.put("readme", b"nor this")
    return Pool(uri=store.uri, images_per_shard=2)


def test_forms_lie_side_by_side_in_the_order_of_their_keys(mixed: Pool) -> None:
    found = [
        ([item.uri.removeprefix(f"{mixed.uri}/") for item in group.listed], group.ids.to_pylist())
        for group in groups_of(mixed)
    ]
    assert found == [
        (["a.png"], ["a.png"]),
        (["b.parquet"], ["p0", "p1"]),
        (["b.parquet"], ["p2"]),
        (["c/1.jpg", "c/2.JPEG"], ["c/1.jpg", "c/2.JPEG"]),
        (["c/3.webp"], ["c/3.webp"]),  # the tar ends the run
        (["d.tar"], ["t0.png", "t1.png"]),
        (["e.png"], ["e.png"]),
    ]
    listed = [item for group in groups_of(mixed) for item in group.listed]
    assert [item.row_group for item in listed] == [None, 0, 1, None, None, None, None, None]
    assert all(item.size > 0 and item.etag for item in listed)
    others = [unit.objects[0].uri for unit in units(source_of(mixed)) if not unit.known]
    assert [uri.rpartition("/")[2] for uri in others] == ["notes.txt", "readme"]


def test_every_row_comes_with_its_place_its_id_and_its_bytes(mixed: Pool) -> None:
    found = [read(shard, mixed) for shard in shards_of(mixed)]
    assert [[(row, name, data) for row, name, _, data in rows_] for rows_ in found] == [
        [(0, "a.png", b"a")],
        [(0, "p0", b"p0"), (1, "p1", b"p1")],
        [(0, "p2", b"p2")],
        [(0, "c/1.jpg", b"c1"), (1, "c/2.JPEG", b"c2")],
        [(0, "c/3.webp", b"c3")],
        [(0, "t0.png", b"t0"), (1, "t1.png", b"t1")],
        [(0, "e.png", b"e")],
    ]
    uris = [uri for rows_ in found for _, _, uri, _ in rows_]
    assert [uri.removeprefix(f"{mixed.uri}/") for uri in uris] == [
        "a.png", "b.parquet", "b.parquet", "b.parquet", "c/1.jpg", "c/2.JPEG", "c/3.webp", "d.tar", "d.tar", "e.png",
    ]  # fmt: skip


def test_ids_without_images_are_the_same_ids(mixed: Pool) -> None:
    for shard, group in zip(shards_of(mixed), groups_of(mixed), strict=True):
        assert ids_of(shard, source_of(mixed)) == group.ids.to_pylist()
        assert [name for _, name, _, _ in read(shard, mixed)] == group.ids.to_pylist()


@pytest.fixture
def large(store: Store) -> Pool:
    """A shard of 30 rows in each form, sizes mixed, with some that are broken or too big."""
    chance = random.Random(0)
    bodies = [chance.randbytes(chance.choice([0, 1, 50, 700, 4000])) for _ in range(30)]
    bodies[7] = b"x" * 9000
    for number, data in enumerate(bodies):
        store.put(f"i/{number:02d}.png", data)
    store.put("p.parquet", parquet({"id": [f"p{n}" for n in range(30)], "image": [*bodies[:29], None]}))
    members = [(f"{n:02d}.{'png' if n % 4 else 'txt'}", data) for n, data in enumerate(bodies * 2)]
    store.put("t.tar", tar(members)[:-3000])
    return Pool(uri=store.uri)


def test_small_pieces_hold_the_same_rows(large: Pool) -> None:
    for shard in shards_of(large):
        whole = read(shard, large, max_bytes=5000)
        assert [row for row, *_ in whole] == list(range(shard.rows))
        assert 0 < sum(isinstance(data, Failure) for *_, data in whole) < shard.rows
        for budget in (1, 100, 5000, 20_000):
            assert read(shard, large, max_bytes=5000, budget=budget) == whole
        small = list(pieces(shard, reading(large, max_bytes=5000, budget=2000)))
        assert len(small) > 3
        for piece in small:
            sizes = [len(data) for data in piece.images if isinstance(data, bytes)]
            assert sum(sizes) - max(sizes, default=0) <= 4 * 2000  # a mean size and one image above


def test_wanted_rows_are_a_choice_of_all(large: Pool) -> None:
    chance = random.Random(1)
    for shard in shards_of(large):
        every = read(shard, large)
        choices = [set(), {0}, {shard.rows - 1}, {shard.rows, 10_000}, set(range(shard.rows))]
        choices += [
            {row for row in range(shard.rows) if chance.random() < share} for share in (0.1, 0.5, 0.9)
        ]
        for wanted in choices:
            for budget in (100, 64 << 20):
                found = read(shard, large, wanted, budget=budget)
                assert found == [row for row in every if row[0] in wanted]


@pytest.mark.parametrize("after", [b"another", None])
def test_a_pool_may_be_written_to_while_it_is_listed(mixed: Pool, store: Store, after: bytes | None) -> None:
    """Of what changed or vanished since its key was listed, images are rows with the reason; others are counted."""
    seen = list(units(source_of(mixed)))
    for key in ("a.png", "b.parquet", "d.tar"):
        if after is None:
            store.delete(key)
        else:
            store.put(key, after)
    surveys = [survey(unit, source_of(mixed)) for unit in seen]
    found = [group for one in surveys for group in one.groups]
    assert [group.ids.to_pylist() for group in found] == [
        ["a.png"], ["c/1.jpg", "c/2.JPEG"], ["c/3.webp"], ["e.png"]
    ]  # fmt: skip
    assert sum((one.left for one in surveys), Counter()) == {MOVED: 2}
    assert not any(one.lost for one in surveys)  # nothing is broken: the next round reads them
    why = Failure(f"{'changed' if after else 'vanished'} since the pool was listed")
    shard = Shard(0, found[0].listed)
    assert [(name, data) for _, name, _, data in read(shard, mixed)] == [("a.png", why)]
    assert ids_of(shard, source_of(mixed)) == ["a.png"]


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ({}, r"(does not exist|is empty)"),
        ({"readme.txt": b"x"}, r"holds no \.parquet, \.tar or image, but 'readme\.txt'"),
        ({"e.parquet": parquet(EMPTY)}, "holds Parquet files without rows"),
        ({".hidden.png": b"x"}, r"(does not exist|is empty)"),
    ],
)
def test_an_empty_pool_is_refused(store: Store, there: dict[str, bytes], why: str) -> None:
    for key, data in there.items():
        store.put(key, data)
    with pytest.raises(PoolError, match=rf"pool\.uri: .* {why}") as raised:
        check_pool(source_of(Pool(uri=store.uri)))
    assert store.uri in str(raised.value)


def test_a_misspelt_folder_is_guessed(tmp_path: Any) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(PoolError, match=r"does not exist; did you mean images\?"):
        check_pool(source_of(Pool(uri=str(tmp_path / "image"))))


@pytest.mark.parametrize("key", ["x.png", "x.tar", "x.parquet"])
def test_anything_of_a_known_form_is_enough(store: Store, key: str) -> None:
    store.put("a.parquet", parquet(EMPTY))
    store.put("notes.txt", b"x")
    store.put(key, b"even if it is broken")
    check_pool(source_of(Pool(uri=store.uri)))


def test_what_may_not_be_listed_is_the_users_to_mend() -> None:
    with pytest.raises(StorageError, match="write it as s3://bucket/prefix"):
        check_pool(source_of(Pool(uri="s3://")))


# ------------------------------------------------------------------------------------------------- forms


@pytest.mark.parametrize(
    ("key", "form"),
    [
        ("a.parquet", "parquet"),
        ("a.PARQUET", "parquet"),
        ("a.tar", "tar"),
        ("a.tar.gz", "other"),
        ("a.tgz", "other"),
        ("a.png.parquet", "parquet"),
        ("a.jpeg", "image"),
        ("a.TIF", "image"),
        ("png", "other"),
        ("a.parquet.crc", "other"),
        ("_SUCCESS", "other"),
    ],
)
def test_the_end_of_a_key_tells_the_form(key: str, form: str) -> None:
    assert form_of(key) == form


def test_a_uri_may_name_one_file(store: Store) -> None:
    store.put("one 50%25.parquet", parquet(rows("a")))
    store.put("no-ending", parquet(rows("b")))
    store.put("one.png", b"c")
    store.put("one.tar", tar({"in/d.png": b"d"}))
    found = {}
    for key in ("one 50%25.parquet", "no-ending", "one.png", "one.tar"):
        pool = Pool(uri=store.url(key))
        check_pool(source_of(pool))
        (shard,) = shards_of(pool)
        ((_, name, uri, data),) = read(shard, pool)
        assert uri == store.url(key)
        assert ids_of(shard, source_of(pool)) == [name]
        found[name] = data
    assert found == {"a": b"a", "b": b"b", "one.png": b"c", "in/d.png": b"d"}


@given(st.lists(st.text(max_size=5)))
def test_a_digest_is_of_ids_whatever_their_order(ids: list[str]) -> None:
    digest = digest_of(pa.array(ids, pa.string()))
    assert digest == digest_of(pa.array(ids[::-1], pa.string()))
    assert digest != digest_of(pa.array([*ids, "one more"], pa.string()))
    if ids:
        assert digest != digest_of(pa.array([*ids, ids[0]], pa.string()))  # twice is not once
        assert digest != digest_of(pa.array([ids[0] + "x", *ids[1:]], pa.string()))


# -------------------------------------------------------------------------------------- what is left out by rule


@pytest.mark.parametrize(
    ("globs", "ids"),
    [
        ({"include": ("c/*",)}, ["c/1.jpg", "c/2.JPEG", "c/3.webp"]),
        ({"exclude": ("c/**", "*.parquet", "*.tar")}, ["a.png", "e.png"]),
        ({"include": ("*.png", "*.tar"), "exclude": ("e*",)}, ["a.png", "t0.png", "t1.png"]),
    ],
)
def test_globs_choose_objects_and_the_rest_is_counted(
    mixed: Pool, globs: dict[str, Any], ids: list[str]
) -> None:
    pool = mixed.model_copy(update=globs)
    assert [name for group in groups_of(pool) for name in group.ids.to_pylist()] == ids
    left = surveyed(pool).left
    taken = {"c/*": 3, "c/**": 2, "*.png": 2}[(globs.get("include") or globs["exclude"])[0]]
    assert left["objects that pool.include and pool.exclude leave out"] == 7 - taken
    assert left["objects that end in .txt"] == left["objects of no known ending"] == 1
    check_pool(source_of(pool))


def test_globs_that_leave_nothing_say_so(mixed: Pool) -> None:
    with pytest.raises(
        PoolError, match=r"no \.parquet, \.tar or image that pool\.include and pool\.exclude leave in"
    ):
        check_pool(source_of(mixed.model_copy(update={"include": ("*.tiff",)})))


def test_a_glob_may_choose_the_one_object_that_a_uri_names(store: Store) -> None:
    store.put("one.png", b"1")
    assert groups_of(Pool(uri=store.url("one.png"), include=("*.png",)))
    assert not groups_of(Pool(uri=store.url("one.png"), exclude=("*.png",)))


def test_images_in_folders_of_notes_are_left_out_and_counted(store: Store) -> None:
    for key in (
        "a.png",
        "__MACOSX/a.png",
        "_temporary/0/b.png",
        "_new/c.png",
        "x/_delta_log/d.tar",
        "_SUCCESS",
    ):
        store.put(key, b"1")
    pool = Pool(uri=store.uri)
    assert list(images_by_id(pool)) == ["_new/c.png", "a.png"]
    assert surveyed(pool).left == {
        "objects in __MACOSX": 1,
        "objects in _temporary": 1,
        "objects in _delta_log": 1,
        "objects of no known ending": 1,
    }
