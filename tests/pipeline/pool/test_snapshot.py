"""The frozen listing: shards found in their parts, what changed since, and digests that tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.sections import Pool
from pipeline.errors import ArtefactDamaged
from pipeline.pool import snapshot as room
from pipeline.pool.snapshot import Changes, Snapshot, SnapshotWriter, listed_objects, load_shard, load_shards
from pipeline.store.opening import LocalStore, Store
from pipeline.types import SHARDS, SNAPSHOT, Listed
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from tests.support.pools import snapshot_of


def image(name: str, etag: str = "e") -> Listed:
    return Listed(f"pool/{name}", None, 1, 10, etag)


def written(
    workspace: Workspace, shards: Sequence[tuple[Listed, ...]], prefix: str = "", ids: str = "digest"
) -> Snapshot:
    writer = SnapshotWriter(Folder(workspace, prefix))
    assert [writer.add(listed, f"{ids}{number}") for number, listed in enumerate(shards)] == list(
        range(len(shards))
    )
    return writer.close()


def runs(*sizes: int) -> list[tuple[Listed, ...]]:
    return [tuple(image(f"{n:03d}/{i:05d}") for i in range(size)) for n, size in enumerate(sizes)]


def test_parts_hold_whole_shards_and_few_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PART_ROWS", 10)
    monkeypatch.setattr(room, "_GROUP_ROWS", 3)
    workspace = Workspace(store)
    shards = runs(4, 4, 4, 25, 1, 9, 1)
    found = written(workspace, shards, "a/")
    assert found.table.schema == SHARDS
    assert found.table["part"].to_pylist() == [0, 0, 1, 2, 3, 3, 4]
    assert found.table["rows"].to_pylist() == [4, 4, 4, 25, 1, 9, 1]
    assert workspace.keys("a/") == [*(f"a/pool/{part:05d}.parquet" for part in range(5)), "a/shards.parquet"]
    tables = list(workspace.tables("a/pool/"))
    assert [table.num_rows for table in tables] == [8, 4, 25, 10, 1]
    assert all(table.schema == SNAPSHOT for table in tables)
    for number in (6, 0, 3, 5, 0, 2, 4, 1):  # in any order, across parts
        shard = load_shard(Folder(workspace, "a/"), part=found.table["part"][number].as_py(), number=number)
        assert (shard.shard, shard.listed) == (number, shards[number])
    assert [shard.listed for shard in load_shards(Folder(workspace, "a/"), found.table)] == shards


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=12),
    part=st.integers(1, 20),
    group=st.integers(1, 9),
)
def test_every_shard_is_found_again(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], part: int, group: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "PART_ROWS", part)
        patch.setattr(room, "_GROUP_ROWS", group)
        workspace = Workspace(LocalStore(str(tmp_path_factory.mktemp("w"))))
        shards = runs(*sizes)
        found = written(workspace, shards)
        assert [shard.listed for shard in load_shards(Folder(workspace), found.table)] == shards
        parts = [table["shard"].to_pylist() for table in workspace.tables("pool/")]
        assert all(len(numbers) <= part or len(set(numbers)) == 1 for numbers in parts)
        assert (found.rows, len(found)) == (sum(sizes), len(sizes))


def test_what_is_read_is_what_was_written_and_some_of_it_may_be_taken(tmp_path: Path) -> None:
    workspace = Workspace(LocalStore(str(tmp_path)))
    found = written(workspace, runs(3, 1, 2))
    again = Snapshot.read(Folder(workspace))
    assert again.table.equals(found.table)
    some = again.take([2, 0])
    assert (some.numbers.tolist(), some.rows, len(some)) == ([2, 0], 5, 2)
    assert again.take([]).rows == 0


def test_a_shard_tells_where_it_is(tmp_path: Path) -> None:
    workspace = Workspace(LocalStore(str(tmp_path)))
    groups = [(Listed("pool/a.parquet", 3, 7, 1, "e"),), (Listed("pool/t.tar", None, 9, 1, "e"),)]
    found = written(workspace, [*groups, *runs(3)])
    assert [(shard.place, shard.rows) for shard in load_shards(Folder(workspace), found.table)] == [
        ("pool/a.parquet#3", 7),
        ("pool/t.tar", 9),
        ("pool/000/00000 and 2 more", 3),
    ]


# ------------------------------------------------------------------------------------------------ digests


def test_equal_pools_have_equal_listings(tmp_path: Path) -> None:
    pool = LocalStore(str(tmp_path / "pool"))
    for name in ("b.png", "a.png"):
        pool.put(name, name.encode())
    digests = []
    for name in ("one", "two"):
        workspace = Workspace(LocalStore(str(tmp_path / name)))
        digests.append(snapshot_of(Pool(uri=pool.uri), workspace, "x/").digest())
        assert Snapshot.read(Folder(workspace, "x/")).digest() == digests[-1]
    assert digests[0] == digests[1]
    first, second = (
        {p.name: p.read_bytes() for p in (tmp_path / name).rglob("*.parquet")} for name in ("one", "two")
    )
    assert first == second


@pytest.mark.parametrize(
    "change",
    [
        {"etag": "another"},
        {"size": 11},
        {"uri": "pool/another"},
        {"row_group": 1},
        {"rows": 2},
    ],
)
def test_any_change_of_an_object_changes_the_digest(tmp_path: Path, change: dict[str, Any]) -> None:
    before = written(Workspace(LocalStore(str(tmp_path / "a"))), [*runs(2), (image("x"),)])
    after = written(Workspace(LocalStore(str(tmp_path / "b"))), [*runs(2), (replace(image("x"), **change),)])
    assert before.digest() != after.digest()


def test_a_change_of_ids_alone_changes_the_digest(tmp_path: Path) -> None:
    before = written(Workspace(LocalStore(str(tmp_path / "a"))), runs(2))
    after = written(Workspace(LocalStore(str(tmp_path / "b"))), runs(2), ids="others")
    assert before.digest() != after.digest()


# ------------------------------------------------------------------------------------------------ changes

names = st.text(st.sampled_from("ab/-é\U0001f431"), min_size=1, max_size=3)
listings = st.dictionaries(names, st.sampled_from("xyz"), max_size=12)


@settings(max_examples=300)
@given(earlier=listings, later=listings, again=st.integers(1, 3))
def test_changes_are_those_of_a_comparison_of_sets(
    earlier: dict[str, str], later: dict[str, str], again: int
) -> None:
    def in_order(listing: dict[str, str]) -> list[tuple[str, str]]:
        return sorted(listing.items(), key=lambda item: item[0].encode())

    changes = Changes(iter(in_order(earlier)))
    for name, etag in in_order(later):
        for _ in range(again):  # a file of several shards counts once
            changes.see(name, etag)
    changes.end()
    assert changes.new == len(later.keys() - earlier.keys())
    assert changes.vanished == len(earlier.keys() - later.keys())
    assert changes.changed == sum(later[name] != earlier[name] for name in earlier.keys() & later.keys())


def test_objects_of_a_listing_come_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PART_ROWS", 2)
    workspace = Workspace(LocalStore(str(tmp_path)))
    groups = [(Listed("pool/m.parquet", group, 5, 1, "m"),) for group in range(4)]  # over two parts
    written(workspace, [(image("a"), image("b", "eb")), *groups, (image("z"),)], "p/")
    assert list(listed_objects(Folder(workspace, "p/"))) == [
        ("pool/a", "e"),
        ("pool/b", "eb"),
        ("pool/m.parquet", "m"),
        ("pool/z", "e"),
    ]


def test_a_part_that_is_damaged_is_told_by_its_place(store: Store) -> None:
    workspace = Workspace(store)
    found = written(workspace, runs(3, 2), "a/")
    store.put("a/pool/00000.parquet", store.get("a/pool/00000.parquet")[:-20])
    with pytest.raises(
        ArtefactDamaged, match=r"a/pool/00000\.parquet is damaged .* run again to make it anew"
    ):
        list(load_shards(Folder(workspace, "a/"), found.table))
