"""Tars as a pool: members are rows in stored order, and where a tar breaks off, one row says so."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.sections import Pool, Storage
from pipeline.pool.pieces import Failure
from pipeline.pool.shards import ids_of, pieces
from pipeline.store.opening import LocalStore, S3Store, Store, open_store
from tests.support.pools import groups_of, read, reading, shards_of, source_of, surveyed, tar

Rows = list[tuple[str, bytes | Failure | None]]


def seen(store: Store, data: bytes, **changes: Any) -> Rows:
    """Put a tar and read it; reading, listing and looking up ids must agree.

    A loss comes last, under the tar's own name: it is no row of the pool.
    """
    store.put("a.tar", data)
    pool = Pool(uri=store.uri, **changes)
    found: Rows = []
    for group, shard in zip(groups_of(pool), shards_of(pool), strict=True):
        rows = read(shard, pool)
        assert [row for row, *_ in rows] == list(range(shard.rows))
        assert [name for _, name, _, _ in rows] == group.ids.to_pylist() == ids_of(shard, source_of(pool))
        assert {uri for _, _, uri, _ in rows} == {store.url("a.tar")}
        found += [(name, data) for _, name, _, data in rows]
    for lost in surveyed(pool).lost:
        assert lost.uri == store.url("a.tar")
        assert lost.bytes == len(data)
        assert lost.listed == len(found)
        found.append((NAMELESS, Failure(lost.reason)))
    return found


def whole(rows: Rows) -> dict[str, bytes]:
    return {name: data for name, data in rows if isinstance(data, bytes)}


def why(rows: Rows) -> list[tuple[str, str]]:
    return [(name, data.reason) for name, data in rows if isinstance(data, Failure)]


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


NAMELESS = "a.tar"  # what is lost has no name of its own
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


def test_what_is_no_regular_file_is_no_row(store: Store) -> None:
    members = [
        (special("folder.png", tarfile.DIRTYPE), b""),
        ("real.png", b"1"),
        (special("soft.png", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (special("hard.png", tarfile.LNKTYPE, "real.png"), b""),
        (special("device.png", tarfile.CHRTYPE), b""),
        (special("pipe.png", tarfile.FIFOTYPE), b""),
        ("last.png", b"2"),
    ]
    images = [
        ("real.png", b"1"),
        ("last.png", b"2"),
        ("hard.png", b"1"),
    ]  # a hard link is the file that it links to
    assert seen(store, tar(members)) == images
    assert surveyed(Pool(uri=store.uri)).left == {"symbolic links": 1, "devices and pipes": 2}


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


@pytest.mark.parametrize("cut", [1, 100, 511, 512 + 1, 512 + 699])
def test_a_tar_cut_within_a_member(store: Store, cut: int) -> None:
    """Within the header its name is lost; within the body it is known who it was."""
    found = seen(store, DATA[: STARTS[3] + cut])
    assert whole(found) == dict(list(IMAGES.items())[:3])
    *members, (name, reason) = why(found)
    assert (name, reason.partition(":")[0]) == (NAMELESS, "broken")
    assert members == ([] if cut < 512 else [("3.png", "broken: the tar ends within it")])


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
def test_what_is_no_tar_at_all_is_lost_and_no_row(store: Store, data: bytes) -> None:
    ((name, reason),) = why(seen(store, data))
    assert name == NAMELESS
    assert reason.startswith("broken: ")
    for pool in (Pool(uri=store.uri), Pool(uri=store.url("a.tar"))):
        found = surveyed(pool)
        assert found.groups == []
        assert [(lost.uri, lost.bytes, lost.listed) for lost in found.lost] == [
            (store.url("a.tar"), len(data), 0)
        ]


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
    lost = [reason for name, reason in why(found) if name == NAMELESS]
    assert len(lost) == (not harmless)


@pytest.mark.parametrize("end", [".png", ".json"])
@pytest.mark.parametrize("cut", [100, 699, 700])
def test_a_last_member_of_any_kind_that_is_cut_is_noticed(store: Store, end: str, cut: int) -> None:
    data = tar({"0.png": b"0", f"1{end}": b"x" * 700})
    found = seen(store, data[: 3 * 512 + cut])
    assert whole(found) == (
        {"0.png": b"0", "1.png": b"x" * 700} if (end, cut) == (".png", 700) else {"0.png": b"0"}
    )
    names = [name for name, _ in why(found)]
    assert names == (["1.png", NAMELESS] if end == ".png" and cut < 700 else [NAMELESS])


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


def test_a_hard_link_is_the_image_that_it_links_to(store: Store) -> None:
    members = [
        ("./x/a.png", b"1"),
        (special("./y/a.png", tarfile.LNKTYPE, "./x/a.png"), b""),
        ("data", b"no ending"),
        (special("b.png", tarfile.LNKTYPE, "data"), b""),
        (special("c.png", tarfile.LNKTYPE, "b.png"), b""),  # through a link
        (special("notes.txt", tarfile.LNKTYPE, "./x/a.png"), b""),
        (special("lost.png", tarfile.LNKTYPE, "nowhere.png"), b""),
        ("z.png", b"2"),
    ]
    assert seen(store, tar(members)) == [
        ("./x/a.png", b"1"),
        ("z.png", b"2"),
        ("./y/a.png", b"1"),  # links come last: the rows of tars that are listed stay where they are
        ("b.png", b"no ending"),
        ("c.png", b"no ending"),
        ("lost.png", Failure("broken: a hard link to 'nowhere.png', which the tar does not hold")),
    ]
    assert surveyed(Pool(uri=store.uri)).left == {
        "members of no known ending": 1,
        "members that end in .txt": 1,
    }


def test_gnu_tar_writes_files_of_one_inode_as_links(tmp_path: Path) -> None:
    """The tar of another program, read back by its own names."""
    source = tmp_path / "source"
    (source / "x").mkdir(parents=True)
    (source / "y").mkdir()
    for number in range(5):
        (source / f"x/{number}.png").write_bytes(b"%d" % number)
        (source / f"y/{number}.png").hardlink_to(source / f"x/{number}.png")
    store = LocalStore(str(tmp_path / "pool"))
    packed = subprocess.run(
        ["tar", "-C", str(source), "-cf", "-", "."], check=True, capture_output=True
    ).stdout
    found = seen(store, packed)
    assert len(found) == 10
    assert dict(found) == {f"./{folder}/{n}.png": b"%d" % n for folder in "xy" for n in range(5)}


@pytest.mark.parametrize("zeros", [1024, 10240, 70_000 // 512 * 512])
def test_joined_tars_are_one(store: Store, zeros: int) -> None:
    def ended(members: dict[str, bytes]) -> bytes:
        return tar(members).rstrip(b"\0").ljust(2 * 512, b"\0")[: 2 * 512] + bytes(zeros)

    first, second, third = ended({"a.png": b"1"}), ended({"b.png": b"2"}), tar({"c.txt": b"3", "a.png": b"4"})
    found = seen(store, first + second + third)
    assert found == [("a.png", b"1"), ("b.png", b"2"), ("a.png", b"4")]


@pytest.mark.parametrize("behind", [b"no tar at all", b"\x1f\x8b" + bytes(600), DATA[: STARTS[2] + 3]])
def test_what_lies_behind_the_end_and_is_no_tar_is_a_loss(store: Store, behind: bytes) -> None:
    found = seen(store, tar({"a.png": b"1"}) + behind)
    assert whole(found) == {"a.png": b"1"} | (dict(list(IMAGES.items())[:2]) if len(behind) > 1000 else {})
    assert [name for name, _ in why(found)] == [NAMELESS]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("./._a.png", "members that start with ._"),
        ("x/._a.jpg", "members that start with ._"),
        ("__MACOSX/x/._a.png", "members that start with ._"),
        ("__MACOSX/x/a.png", "members in __MACOSX"),
        (".thumbnails/a.png", "hidden members"),
        ("x/.a.png", "hidden members"),
        ("a.JSON", "members that end in .json"),
        ("a", "members of no known ending"),
        ("a.with a blank", "members of no known ending"),
    ],
)
def test_members_that_are_no_images_of_the_pool_are_counted_by_kind(
    store: Store, name: str, kind: str
) -> None:
    assert seen(store, tar({"0.png": b"0", name: b"junk", "1.png": b"1"})) == [
        ("0.png", b"0"),
        ("1.png", b"1"),
    ]
    assert surveyed(Pool(uri=store.uri)).left == {kind: 1}


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (gzip.compress(DATA), "gzip"),
        (lzma.compress(DATA), "xz"),
        (bz2.compress(DATA), "bzip2"),
        (b"PK\x03\x04" + bytes(600), "zip"),
    ],
)
def test_another_form_under_the_name_of_a_tar_is_named(store: Store, data: bytes, form: str) -> None:
    assert seen(store, data) == [(NAMELESS, Failure(f"broken: {form} data, not a plain tar"))]


def test_a_header_of_digits_takes_no_time(tmp_path: Path) -> None:
    """CVE-2024-6232: 80,000 digits took nine seconds each."""
    info = tarfile.TarInfo("slow.png")
    info.pax_headers = {"comment": "1" * 100_000}
    began = time.process_time()
    found = seen(LocalStore(str(tmp_path)), tar([("0.png", b"0"), (info, b"1")]))
    assert time.process_time() - began < 2
    assert why(found) == [(NAMELESS, "broken: a header with a number of more than 128 digits")]
    info.pax_headers = {
        "comment": " ".join(["1" * 128] * 9),
        "mtime": "1700000000.123456789",
    }  # honest, if odd
    assert whole(seen(LocalStore(str(tmp_path)), tar([(info, b"1")]))) == {"slow.png": b"1"}


def test_folders_above_a_tar_tell_its_metadata(store: Store) -> None:
    store.put("camera=3/day=2026-01-31/a.tar", tar({"a.png": b"1", "b.png": b"2"}))
    store.put("c.tar", tar({"c.png": b"3"}))
    pool = Pool(uri=store.uri, metadata=("day", "camera"))
    found = [piece for shard in shards_of(pool) for piece in pieces(shard, reading(pool))]
    assert {
        name: facts for piece in found for name, facts in zip(piece.ids, piece.metadata, strict=True)
    } == {
        "c.png": (None, None),
        "a.png": ("2026-01-31", "3"),
        "b.png": ("2026-01-31", "3"),
    }
