"""PNG without what its picture does not need."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.images.bad import BadImage
from pipeline.images.picture import picture
from pipeline.images.png import without_metadata
from tests.support.odd_images import chunk, encoded, photo

PHOTO = photo(np.random.default_rng(0))
WHOLE = encoded(PHOTO, "PNG")
PIXELS = np.asarray(PHOTO)


def with_chunk(made: bytes) -> bytes:
    """The file with a chunk behind its header."""
    return WHOLE[:33] + made + WHOLE[33:]


def damaged(kind: bytes) -> bytes:
    return chunk(kind, b"k\0v")[:-4] + bytes(4)


@pytest.mark.parametrize("kind", [b"tEXt", b"iCCP", b"gIFx", b"pHYs", b"eXIf", b"iTXt"])
def test_a_wrong_checksum_of_metadata_leaves_the_picture(kind: bytes) -> None:
    assert np.array_equal(np.asarray(picture(with_chunk(damaged(kind)), 10_000)), PIXELS)


@pytest.mark.parametrize("kind", [b"gAMA", b"sBIT", b"pHYs", b"sRGB", b"cHRM", b"bKGD", b"hIST"])
def test_metadata_of_a_wrong_length_leave_the_picture(kind: bytes) -> None:
    assert np.array_equal(np.asarray(picture(with_chunk(chunk(kind, b"")), 10_000)), PIXELS)


@pytest.mark.parametrize("kind", [b"PLTE", b"tRNS"])
def test_a_wrong_checksum_of_what_makes_the_picture_breaks_it(kind: bytes) -> None:
    with pytest.raises(BadImage, match=r"(broken|truncated) PNG"):
        picture(with_chunk(damaged(kind)), 10_000)


def test_a_turn_stays_beside_a_chunk_that_goes() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(PHOTO, "PNG", exif=exif)
    both = turned[:33] + damaged(b"tEXt") + turned[33:]
    assert np.array_equal(np.asarray(picture(both, 10_000)), np.asarray(picture(turned, 10_000)))
    assert picture(both, 10_000).size == PHOTO.size[::-1]


def test_what_is_kept_is_kept_as_it_stands() -> None:
    text = chunk(b"tEXt", b"k\0v")
    profile = chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(100)))
    assert without_metadata(with_chunk(text + profile)) == with_chunk(text)
    assert without_metadata(with_chunk(text)) is None, "nothing to leave out"
    packed = chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(bytes(100)))
    assert without_metadata(with_chunk(packed)) == WHOLE
    long = chunk(b"tEXt", b"k\0" + bytes(70_000))
    assert without_metadata(with_chunk(long)) == WHOLE


@pytest.mark.parametrize("cut", [40, 50, len(WHOLE) - 3])
def test_what_is_cut_within_a_chunk_stays_as_it_is(cut: int) -> None:
    assert without_metadata(WHOLE[:cut]) is None


def test_lengths_of_a_stranger_are_bounded_by_the_file() -> None:
    data = WHOLE[:33] + struct.pack(">I", 2**31) + b"tEXt" + bytes(50)
    assert without_metadata(data) is None
    assert without_metadata(memoryview(data)) is None
