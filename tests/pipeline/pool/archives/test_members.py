"""Members of tars by their headers; as a pool they are tested in tests/pipeline/pool/test_tars.py."""

from __future__ import annotations

import io
import tarfile

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pool.archives.members import Break, Member, members
from pipeline.pool.inventory.found import Left
from pipeline.pool.pieces import Failure
from tests.support.pools import tar


def found(data: bytes) -> list[Member | Left | Break]:
    return list(members(pa.BufferReader(data), len(data)))


def test_members_come_with_the_places_of_their_bytes() -> None:
    data = tar({"a.png": b"1" * 700, "a.json": b"{}", "b.png": b"2"})
    first, other, last = found(data)
    assert (first, last) == (Member("a.png", 512, 700), Member("b.png", 512 + 1024 + 1024 + 512, 1))
    assert other == Left("members that end in .json")
    assert data[last.offset : last.offset + last.size] == b"2"


def test_a_break_comes_once_with_its_place_and_before_the_links() -> None:
    link = tarfile.TarInfo("l.png")
    link.type, link.linkname = tarfile.LNKTYPE, "a.png"
    data = tar([("a.png", b"1"), (link, b""), ("b.png", b"2" * 600)])[: 1024 + 512 + 512 + 100]
    a, b, broken, linked = found(data)
    assert (a, linked) == (Member("a.png", 512, 1), Member("l.png", 512, 1))
    assert b == Member("b.png", 2048, 600, Failure("broken: the tar ends within it"))
    assert broken == Break(1536, Failure("broken: the tar ends within a member"))


@given(st.lists(st.lists(st.binary(min_size=1, max_size=600), max_size=3), min_size=1, max_size=4))
def test_joined_tars_hold_what_each_of_them_holds(archives: list[list[bytes]]) -> None:
    """Tarfile itself reads each part alone."""
    parts = [
        tar({f"{n}-{i}.png": data for i, data in enumerate(bodies)}) for n, bodies in enumerate(archives)
    ]
    whole = b"".join(parts)
    want = {}
    for part in parts:
        with tarfile.open(fileobj=io.BytesIO(part)) as file:
            for info in file:
                body = file.extractfile(info)
                assert body is not None
                want[info.name] = body.read()
    got = found(whole)
    assert all(isinstance(each, Member) for each in got)
    assert {
        each.name: whole[each.offset : each.offset + each.size] for each in got if isinstance(each, Member)
    } == want
