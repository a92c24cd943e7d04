"""Icons whose pictures are larger than their directory says."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from pipeline.images.bad import BadImage
from pipeline.images.icons import sizes
from pipeline.images.picture import picture
from tests.support.odd_images import chunk, encoded


def png(side: int) -> bytes:
    """The header of a square, and pixels that compress to nothing."""
    pack = zlib.compressobj(9)
    body = b"".join(pack.compress(bytes(1 + side)) for _ in range(side)) + pack.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def ico(picture: bytes) -> bytes:
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 32, 32, 0, 0, 1, 32, len(picture), 22) + picture


def icns(picture: bytes) -> bytes:
    block = b"ic09" + struct.pack(">I", 8 + len(picture)) + picture
    return b"icns" + struct.pack(">I", 8 + len(block)) + block


BITMAP = struct.pack("<IiiHHIIIIII", 40, 3000, 2 * 4000, 1, 32, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (ico(png(300)), [(300, 300)]),
        (icns(png(300)), [(300, 300)]),
        (icns(encoded(Image.new("RGB", (512, 256)), "JPEG2000")), [(512, 256), (512, 256)]),
        (ico(BITMAP), [(3000, 4000)]),
        (b"\0\0\1\0\xff\xff", []),
        (b"icns", []),
    ],
)
def test_sizes_are_those_of_the_pictures(data: bytes, found: list[tuple[int, int]]) -> None:
    assert sizes(data) == found
    assert sizes(memoryview(data)) == found


@pytest.mark.parametrize(
    "data", [ico(png(2000)), icns(png(2000)), ico(BITMAP)], ids=["ico", "icns", "bitmap"]
)
def test_an_icon_with_a_giant_inside_is_refused(data: bytes) -> None:
    with pytest.raises(BadImage, match=r"^too many pixels: more than 1000000$"):
        picture(data, 1_000_000)


def test_an_icon_that_is_one_is_decoded() -> None:
    image = Image.new("RGB", (32, 32), (10, 20, 30))
    assert picture(encoded(image, "ICO", sizes=[(32, 32)]), 1_000_000).getpixel((5, 5)) == (10, 20, 30)


@pytest.mark.parametrize("made", [ico, icns])
def test_a_giant_is_refused_before_pillow_opens_the_icon(
    made: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow decodes an icon as it opens it: 144 megapixels from 18 kB."""
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("was opened"))
    with pytest.raises(BadImage, match="too many pixels"):
        picture(made(png(2000)), 1_000_000)
