"""A file over ranged requests: the right bytes for any reads, and few requests for the usual ones."""

from __future__ import annotations

import io
import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import StoreUnavailable
from pipeline.store.ranged import FAR, GAP, NEAR, PAGE, RangedFile


class Source:
    """Bytes, and which ranges of them were asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []

    def fetch(self, first: int, count: int) -> bytes:
        assert 0 <= first < first + count <= len(self.data)
        self.asked.append((first, count))
        return self.data[first : first + count]

    def file(self, tail: int = 0) -> RangedFile:
        return RangedFile(self.fetch, len(self.data), self.data[len(self.data) - tail :])


DATA = random.Random(0).randbytes(3 * FAR)
PLACES = st.integers(-NEAR, 3 * FAR + NEAR)


@given(
    size=st.sampled_from([0, 1, NEAR - 1, NEAR, NEAR + 1, 3 * NEAR, 3 * FAR]),
    tail=st.sampled_from([0, 1, NEAR]),
    steps=st.lists(
        st.tuples(st.sampled_from([io.SEEK_SET, io.SEEK_CUR, io.SEEK_END]), PLACES, st.integers(-1, 2 * FAR))
    ),
)
def test_any_reads_give_what_a_file_gives(size: int, tail: int, steps: list[tuple[int, int, int]]) -> None:
    source = Source(DATA[:size])
    file, real = source.file(min(tail, size)), io.BytesIO(source.data)
    for whence, offset, count in steps:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: real.tell(), io.SEEK_END: size}[whence]
        if base + offset < 0:
            with pytest.raises(ValueError, match="before the start"):
                file.seek(offset, whence)
        else:
            assert file.seek(offset, whence) == real.seek(offset, whence)
        assert file.read(count) == real.read(count)
        assert file.tell() == real.tell()


def test_front_to_back_the_pieces_grow_and_nothing_is_asked_twice() -> None:
    source = Source(DATA)
    file = source.file()
    while file.read(10_000):
        pass
    counts = [count for _, count in source.asked]
    assert counts[:6] == [NEAR, 2 * NEAR, 4 * NEAR, 8 * NEAR, FAR, FAR]
    assert sum(counts) == len(DATA)


def test_skipping_a_little_goes_on_and_skipping_far_starts_small() -> None:
    source = Source(DATA)
    file = source.file()
    for at in range(0, 8 * NEAR, NEAR // 2):  # the headers of a tar of small members
        file.seek(at)
        file.read(512)
    assert len(source.asked) == 4
    source.asked.clear()
    for at in range(0, len(DATA), FAR):  # those of a tar of large ones
        file.seek(at)
        file.read(512)
    assert source.asked == [(at, NEAR) for at in range(0, len(DATA), FAR)]


def test_a_large_read_is_one_request_of_just_its_bytes() -> None:
    source = Source(DATA)
    file = source.file()
    file.seek(1000)
    file.read(2 * FAR)
    assert source.asked == [(1000, 2 * FAR)]


def test_near_the_end_the_surroundings_come_along() -> None:
    source = Source(DATA)
    file = source.file()
    for back in (8, 1000, NEAR):
        file.seek(-back, io.SEEK_END)
        assert file.read(back) == DATA[-back:]
    assert source.asked == [(len(DATA) - NEAR, NEAR)]


def test_a_known_tail_is_not_asked_for() -> None:
    source = Source(DATA[:NEAR])
    assert source.file(tail=NEAR).read() == source.data
    assert source.asked == []


def test_what_the_source_raises_comes_through_arrow_as_it_is() -> None:
    def fetch(first: int, count: int) -> bytes:
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable, match="away"):
        pa.PythonFile(RangedFile(fetch, 10), mode="r").read()


def test_of_a_sparse_file_far_places_cost_a_page_and_near_ones_share_a_request() -> None:
    source = Source(DATA)
    file = RangedFile(source.fetch, len(DATA), sparse=True)
    for at in range(0, len(DATA), GAP + PAGE + 1):
        file.seek(at)
        file.read(512)
    assert {count for _, count in source.asked} == {PAGE}
    source.asked.clear()
    for at in range(0, len(DATA), 2000):
        file.seek(at)
        file.read(512)
    assert len(source.asked) <= 14


@given(
    steps=st.lists(st.tuples(st.integers(0, 3 * FAR), st.integers(0, 2 * NEAR)), max_size=30),
)
def test_a_sparse_file_gives_the_same_bytes(steps: list[tuple[int, int]]) -> None:
    file = RangedFile(Source(DATA).fetch, len(DATA), sparse=True)
    for at, count in steps:
        file.seek(at)
        assert file.read(count) == DATA[at : at + count]
