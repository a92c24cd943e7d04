"""Tars as a pool: members are rows in stored order, and where a tar breaks off, one row says so."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.sections import Pool, Storage
from pipeline.pool.pieces import Failure
from pipeline.pool.shards import ids_of, survey, units
from pipeline.store.opening import LocalStore, S3Store, Store, open_store
from tests.support.pools import groups_of, read, shards_of, source_of, tar

Rows = list[tuple[str, bytes | Failure | None]]


def seen(store: Store, data: bytes, **changes: Any) -> Rows:
    """Put a tar and read it; reading, listing and looking up ids must agree."""
    store.put("a.tar", data)
    pool = Pool(uri=store.uri, **changes)
    found: Rows = []
    for group, shard in zip(groups_of(pool), shards_of(pool), strict=True):
        rows = read(shard, pool)
        assert [row for row, *_ in rows] == list(range(shard.rows))
        assert [name for _, name, _, _ in rows] == group.ids.to_pylist() == ids_of(shard, source_of(pool))
        assert {uri for _, _, uri, _ in rows} == {store.url("a.tar")}
        found += [(name, data) for _, name, _, data in rows]
    return found


def whole(rows: Rows) -> dict[str, bytes]:
    return {name: data for name, data in rows if isinstance(data, bytes)}


def why(rows: Rows) -> list[tuple[str, str]]:
    return [(name, data.reason) for name, data in rows if isinstance(data, Failure)]


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


IMAGES = {f"{n}.png": bytes([n]) * 700 for n in range(5)}


def test_members_are_rows_in_stored_order(store: Store) -> None:
    members = {
        "z.png": b"1",
        "a/b.JPG": b"2",
        "a/b.json": b"{}",
        "a/b.cls": b"7",
        "m.webp": b"3",
        "e.png": b"",
    }
    assert seen(store, tar(members)) == [("z.png", b"1"), ("a/b.JPG", b"2"), ("m.webp", b"3"), ("e.png", b"")]


def test_an_id_may_have_the_tars_key_before_it(store: Store) -> None:
    for key in ("x/1.tar", "x/2.tar"):
        store.put(key, tar({"0.png": key.encode()}))
    found = {}
    for ids in ("member", "path"):
        pool = Pool(uri=store.uri, tar_ids=ids)
        found[ids] = [(name, data) for shard in shards_of(pool) for _, name, _, data in read(shard, pool)]
    assert found == {
        "member": [("0.png", b"x/1.tar"), ("0.png", b"x/2.tar")],
        "path": [("x/1.tar/0.png", b"x/1.tar"), ("x/2.tar/0.png", b"x/2.tar")],
    }
    alone = Pool(uri=store.url("x/1.tar"), tar_ids="path")
    assert [group.ids.to_pylist() for group in groups_of(alone)] == [["0.png"]]


def test_what_is_no_file_is_no_row_and_a_hard_link_is_its_file(store: Store) -> None:
    members = [
        (special("folder.png", tarfile.DIRTYPE), b""),
        ("real.png", b"1"),
        (special("soft.png", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (special("hard.png", tarfile.LNKTYPE, "real.png"), b""),
        (special("device.png", tarfile.CHRTYPE), b""),
        (special("pipe.png", tarfile.FIFOTYPE), b""),
        ("last.png", b"2"),
    ]
    assert whole(seen(store, tar(members))) == {"real.png": b"1", "hard.png": b"1", "last.png": b"2"}
    assert len(seen(store, tar(members))) == 3


def test_a_link_to_what_is_not_there_says_so(store: Store) -> None:
    members = [(special("hard.png", tarfile.LNKTYPE, "later.png"), b""), ("later.png", b"1")]
    found = seen(store, tar(members))
    assert whole(found) == {"later.png": b"1"}
    assert why(found) == [("hard.png", "broken: a link to a member that does not stand before it")]


def test_joined_tars_are_read_to_the_last(store: Store) -> None:
    joined = (
        tar({"a.png": b"1"}) + tar({"b.png": b"2", "b.txt": b"x"}) + bytes(200_000) + tar({"c.png": b"3"})
    )
    assert whole(seen(store, joined)) == {"a.png": b"1", "b.png": b"2", "c.png": b"3"}
    found = seen(store, joined + b"no tar at all" * 100)
    assert whole(found) == {"a.png": b"1", "b.png": b"2", "c.png": b"3"}
    assert len(why(found)) == 1, "and what lies behind is not passed over"


@pytest.mark.parametrize("name", ["._a.png", "deep/._a.png", "__MACOSX/a.png", "x/__MACOSX/deep/._a.png"])
def test_what_macos_leaves_beside_images_is_left_out(store: Store, name: str) -> None:
    assert whole(seen(store, tar({name: b"resource fork", "a.png": b"1"}))) == {"a.png": b"1"}


def test_what_is_left_out_is_counted_by_kind(store: Store) -> None:
    members = {
        "a.png": b"1",
        "a.json": b"{}",
        "b.JSON": b"{}",
        "._a.png": b"x",
        "README": b"x",
        "a.cls": b"7",
    }
    links = [(special("soft.png", tarfile.SYMTYPE, "a.png"), b""), (special("folder", tarfile.DIRTYPE), b"")]
    store.put("a.tar", tar([*members.items(), *links]))
    source = source_of(Pool(uri=store.uri))
    (unit,) = units(source)
    assert survey(unit, source).skipped == {
        ".json files in tars": 2,
        "hidden or system files in tars": 1,
        "other files in tars": 1,
        ".cls files in tars": 1,
        "links and devices in tars": 1,
        "folders in tars": 1,
    }


@pytest.mark.parametrize("cut", [700, 1100, 1700])
def test_a_tar_that_breaks_off_says_that_more_may_be_lost(store: Store, cut: int) -> None:
    store.put("a.tar", tar({"a.png": b"1" * 600, "b.png": b"2" * 600, "c.png": b"3"})[:cut])
    source = source_of(Pool(uri=store.uri))
    (unit,) = units(source)
    (group,) = survey(unit, source).groups
    assert group.broken is not None and group.broken.startswith("broken: ")


@pytest.mark.parametrize(
    "data",
    [gzip.compress(tar({"a.png": b"1"}), mtime=0), b"PK\3\4" + bytes(600), b"\x8f" * 1024],
    ids=["gzip", "zip", "noise"],
)
def test_what_is_called_tar_and_is_none_says_so(store: Store, data: bytes) -> None:
    store.put("a.tar", data)
    source = source_of(Pool(uri=store.uri))
    (unit,) = units(source)
    (group,) = survey(unit, source).groups
    assert group.broken


def test_a_tar_without_images_is_no_shard(store: Store) -> None:
    assert seen(store, tar({"a.txt": b"x"})) == []
    assert seen(store, tar({})) == []


HOSTILE = ["../../escape.png", "/etc/absolute.png", "a//b.png", "./c.png", "line\nbreak.png", "日本.png",
           "\x1b[31mred.png", "x" * 3000 + ".png", "  .png", "%2e.png"]  # fmt: skip


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_are_text_and_never_paths(store: Store, form: int) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form) as file:
        for name in HOSTILE:
            info = tarfile.TarInfo(name)
            info.size = 1
            file.addfile(info, io.BytesIO(b"x"))
    assert [name for name, _ in seen(store, sink.getvalue())] == HOSTILE


def test_a_name_that_is_no_text_shows_its_bytes(store: Store) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as file:
        info = tarfile.TarInfo("\xff\xe9.png")
        info.size = 1
        file.addfile(info, io.BytesIO(b"x"))
    assert seen(store, sink.getvalue()) == [("\\xff\\xe9.png", b"x")]


def headers(data: bytes) -> list[int]:
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        return [info.offset for info in file]


DATA = tar(IMAGES)
STARTS = headers(DATA)
NAMELESS = "a.tar"  # the id of what has no name of its own


@pytest.mark.parametrize("cut", [1, 100, 511, 512 + 1, 512 + 699])
def test_a_tar_cut_within_a_member(store: Store, cut: int) -> None:
    """Within the header its name is lost; within the body it is known who it was."""
    found = seen(store, DATA[: STARTS[3] + cut])
    assert whole(found) == dict(list(IMAGES.items())[:3])
    ((name, reason),) = why(found)
    if cut < 512:
        assert (name, reason.partition(":")[0]) == (NAMELESS, "broken")
    else:
        assert (name, reason) == ("3.png", "broken: the tar ends within it")


def test_a_tar_cut_between_members_has_no_end(store: Store) -> None:
    found = seen(store, DATA[: STARTS[3]])
    assert whole(found) == dict(list(IMAGES.items())[:3])
    assert why(found) == [(NAMELESS, f"broken: no header and no end at byte {STARTS[3]} of {STARTS[3]}")]


@pytest.mark.parametrize("noise", [b"\xff" * 512, b"garbage!" * 64, bytes(100) + b"x" * 412])
def test_a_header_of_noise_ends_the_tar_and_says_so(store: Store, noise: bytes) -> None:
    found = seen(store, DATA[: STARTS[2]] + noise + DATA[STARTS[2] + 512 :])
    assert whole(found) == dict(list(IMAGES.items())[:2])
    assert [name for name, _ in why(found)] == [NAMELESS]
    assert why(found)[0][1].startswith("broken: ")


@pytest.mark.parametrize("data", [b"", b"x", b"not a tar" * 500, b"\x1f\x8b\x08" + bytes(2000), DATA[:300]])
def test_what_is_no_tar_at_all_is_one_row(store: Store, data: bytes) -> None:
    ((name, reason),) = why(seen(store, data))
    assert name == NAMELESS
    assert reason.startswith("broken: ")
    pool = Pool(uri=store.url("a.tar"))  # named by itself, it has no key to be called by
    ((_, name, _, failure),) = [row for shard in shards_of(pool) for row in read(shard, pool)]
    assert name == store.url("a.tar")
    assert isinstance(failure, Failure)


def forged(name: str, size: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header whose size field says what one likes, with a checksum that fits."""
    info = tarfile.TarInfo(name)
    info.type = kind
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:512])
    head[124:136] = size
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def binary(value: int) -> bytes:
    return (b"\xff" if value < 0 else b"\x80") + (value % (1 << 88)).to_bytes(11, "big")


@pytest.mark.parametrize("size", [-1, -512, -1024, -(1 << 60), 1 << 40, 1 << 63, (1 << 87) - 1])
@pytest.mark.parametrize("name", ["evil.png", "evil.txt"])
@pytest.mark.parametrize(
    "kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE]
)
def test_forged_sizes_lead_nowhere(tmp_path: Path, size: int, name: str, kind: bytes) -> None:
    """Not round in circles, not into memory that is not there."""
    data = DATA[: STARTS[2]] + forged(name, binary(size), kind) + DATA[STARTS[2] :]
    found = seen(LocalStore(str(tmp_path)), data)
    assert dict(list(IMAGES.items())[:2]).items() <= whole(found).items()
    harmless = size == -1 and kind != tarfile.REGTYPE  # rounded up it is nothing, and nothing is lost
    assert len(why(found)) == (not harmless)


@pytest.mark.parametrize("end", [".png", ".json"])
@pytest.mark.parametrize("cut", [100, 699, 700])
def test_a_last_member_of_any_kind_that_is_cut_is_noticed(store: Store, end: str, cut: int) -> None:
    data = tar({"0.png": b"0", f"1{end}": b"x" * 700})
    found = seen(store, data[: 3 * 512 + cut])
    assert whole(found) == (
        {"0.png": b"0", "1.png": b"x" * 700} if (end, cut) == (".png", 700) else {"0.png": b"0"}
    )
    assert len(why(found)) == 1


def test_a_size_that_pax_records_say_is_no_way_round(tmp_path: Path) -> None:
    info = tarfile.TarInfo("evil.txt")
    info.pax_headers = {"size": "-5000"}
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as file:
        file.addfile(info)
    data = DATA[: STARTS[2]] + sink.getvalue()[: 3 * 512] + DATA[STARTS[2] :]
    found = seen(LocalStore(str(tmp_path)), data)
    assert dict(list(IMAGES.items())[:2]).items() <= whole(found).items()
    assert [name for name, _ in why(found)] == [NAMELESS]


@pytest.mark.parametrize(("size", "fits"), [(1000, True), (3 << 20, False)])
def test_what_a_member_says_of_itself_is_bounded(store: Store, size: int, fits: bool) -> None:
    info = tarfile.TarInfo("much.png")
    info.pax_headers = {"comment": "x" * size}
    found = seen(store, tar([("0.png", b"0"), (info, b"1"), ("2.png", b"2")]))
    if fits:
        assert whole(found) == {"0.png": b"0", "much.png": b"1", "2.png": b"2"}
    else:
        assert whole(found) == {"0.png": b"0"}
        ((name, reason),) = why(found)
        assert (name, reason.startswith("broken: a header of ")) == (NAMELESS, True)


def test_names_upon_names_are_no_way_to_the_bottom(tmp_path: Path) -> None:
    deep = forged("x", b"%011o\0" % 1, tarfile.GNUTYPE_LONGNAME) + b"x".ljust(512, b"\0")
    found = seen(LocalStore(str(tmp_path)), deep * 3000 + DATA)
    assert len(why(found)) == 1


def test_sparse_members_are_not_what_lies_there(tmp_path: Path) -> None:
    info = forged("holes.png", b"%011o\0" % 512, tarfile.GNUTYPE_SPARSE)
    found = seen(LocalStore(str(tmp_path)), info + bytes(512) + DATA)
    assert why(found) == [("holes.png", "unsupported: a sparse member")]
    assert whole(found) == IMAGES


def test_what_is_too_big_is_skipped(store: Store) -> None:
    store.put("a.tar", tar({"a.png": b"x" * 100, "b.png": b"x" * 101, "c.png": b"c"}))
    pool = Pool(uri=store.uri)
    (shard,) = shards_of(pool)
    assert [data for *_, data in read(shard, pool, max_bytes=100)] == [
        b"x" * 100,
        Failure("too big: 101 bytes, more than scoring.max_bytes (100)"),
        b"c",
    ]


def test_a_tar_that_changed_or_vanished_since_is_not_read(store: Store) -> None:
    store.put("a.tar", tar({"a.png": b"a", "b.png": b"b"}))
    pool = Pool(uri=store.uri)
    (shard,) = shards_of(pool)
    uri = store.url("a.tar")
    store.put("a.tar", tar({"a.png": b"a", "b.png": b"B", "c.png": b"c"}))
    for reason in ("changed", "vanished"):
        failure = Failure(f"{reason} since the pool was listed")
        assert read(shard, pool) == [(0, f"{uri}:0", uri, failure), (1, f"{uri}:1", uri, failure)]
        assert read(shard, pool, {1}) == [(1, f"{uri}:1", uri, failure)]
        assert ids_of(shard, source_of(pool)) == [f"{uri}:0", f"{uri}:1"]
        store.delete("a.tar")


@settings(max_examples=150)
@given(
    at=st.lists(st.integers(0, len(DATA) - 1), min_size=1, max_size=4),
    value=st.integers(0, 255),
    end=st.none() | st.integers(0, len(DATA)),
)
def test_no_damage_raises_or_loses_a_listed_row(at: list[int], value: int, end: int | None) -> None:
    import tempfile

    data = bytearray(DATA)
    for place in at:
        data[place] = value
    with tempfile.TemporaryDirectory() as folder:
        seen(LocalStore(folder), bytes(data[:end]))


@pytest.fixture
def counted(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, list[int]]:
    """A store, and the bytes of each ranged request that is made from here on."""
    asked: list[int] = []
    ask = S3Store._range

    def count(self: S3Store, key: str, first: int, size: int, *, etag: str) -> bytes:
        asked.append(size)
        return ask(self, key, first, size, etag=etag)

    monkeypatch.setattr(S3Store, "_range", count)
    return open_store(s3_bucket, Storage()), asked


@pytest.mark.s3
@pytest.mark.parametrize(
    ("members", "size", "share", "requests"),
    [
        (12, 1 << 20, 0.006, 16),  # large ones stay where they are
        (40, 120_000, 0.06, 44),
        (300, 20_000, 1.0, 14),  # of small ones, one request brings many headers
        (4000, 300, 1.0, 14),
    ],
)
def test_listing_reads_headers_and_little_else(
    members: int, size: int, share: float, requests: int, counted: tuple[Store, list[int]]
) -> None:
    store, asked = counted
    data = tar({f"{n:05d}.png": bytes(size) for n in range(members)})
    store.put("a.tar", data)
    pool = Pool(uri=store.uri)
    (group,) = groups_of(pool)
    assert group.ids.to_pylist() == [f"{n:05d}.png" for n in range(members)]
    assert sum(asked) <= share * len(data)
    assert len(asked) <= requests


@pytest.mark.s3
def test_a_few_wanted_members_cost_their_own_bytes(counted: tuple[Store, list[int]]) -> None:
    store, asked = counted
    images = {f"{n}.png": bytes([n]) * 300_000 for n in range(40)}
    store.put("a.tar", tar(images))
    pool = Pool(uri=store.uri)
    (shard,) = shards_of(pool)
    asked.clear()
    assert [(row, data) for row, _, _, data in read(shard, pool, {3, 20})] == [
        (n, images[f"{n}.png"]) for n in (3, 20)
    ]
    assert sum(asked) <= 2 * 300_000 + 25 * 5000
    asked.clear()
    assert len(read(shard, pool)) == 40  # all of them, front to back: few and large requests
    assert len(asked) <= 8
