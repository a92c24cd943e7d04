"""From encoded bytes to pixels: every mode by hand, and nothing but BadImage for what is broken."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.decode import BadImage, decode

SIDE = 4
MOST = 1_000_000


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def color(data: bytes | None, size: int = SIDE) -> tuple[int, ...]:
    """The one colour of an image of one colour."""
    pixels = decode(data, size, max_pixels=MOST)
    assert (pixels.shape, pixels.dtype) == ((3, size, size), np.uint8)
    assert pixels.flags.c_contiguous
    (found,) = {tuple(p) for p in pixels.reshape(3, -1).T.tolist()}
    return found


def plain(mode: str, value: object) -> Image.Image:
    return Image.new(mode, (SIDE, SIDE), value)


def gray16(value: int) -> Image.Image:
    return Image.fromarray(np.full((SIDE, SIDE), value, np.uint16))


def palette(transparent: int | None) -> bytes:
    image = plain("P", 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    return encoded(image) if transparent is None else encoded(image, transparency=transparent)


@pytest.mark.parametrize(
    ("data", "want"),
    [
        (encoded(plain("RGB", (10, 20, 30))), (10, 20, 30)),
        (encoded(plain("L", 100)), (100, 100, 100)),
        (encoded(plain("1", 1)), (255, 255, 255)),
        (encoded(plain("1", 0)), (0, 0, 0)),
        # Transparent pixels lie on white: half of 100 and half of 255 is 177 or 178.
        (encoded(plain("LA", (100, 255))), (100, 100, 100)),
        (encoded(plain("LA", (100, 0))), (255, 255, 255)),
        (encoded(plain("RGBA", (10, 20, 30, 255))), (10, 20, 30)),
        (encoded(plain("RGBA", (10, 20, 30, 0))), (255, 255, 255)),
        (encoded(plain("RGB", (10, 20, 30)), transparency=(10, 20, 30)), (255, 255, 255)),
        (encoded(plain("RGB", (10, 20, 30)), transparency=(9, 9, 9)), (10, 20, 30)),
        (palette(None), (10, 20, 30)),
        (palette(0), (10, 20, 30)),
        (palette(1), (255, 255, 255)),
        # 16 bits are scaled by their range, not cut: 65535 is white, 257 is 1, 256 is not yet.
        (encoded(gray16(65535)), (255, 255, 255)),
        (encoded(gray16(257)), (1, 1, 1)),
        (encoded(gray16(256)), (0, 0, 0)),
        (encoded(gray16(0)), (0, 0, 0)),
        (encoded(plain("CMYK", (0, 0, 0, 0)), "TIFF"), (255, 255, 255)),
        (encoded(plain("CMYK", (0, 255, 0, 0)), "TIFF"), (255, 0, 255)),
        (encoded(plain("CMYK", (0, 0, 0, 255)), "JPEG"), (0, 0, 0)),
        (encoded(plain("RGB", (10, 20, 30)), "BMP"), (10, 20, 30)),
        (encoded(plain("RGB", (10, 20, 30)), "WEBP", lossless=True), (10, 20, 30)),
        (encoded(plain("RGB", (10, 20, 30)), "TIFF"), (10, 20, 30)),
    ],
)  # fmt: skip
def test_every_mode_becomes_rgb(data: bytes, want: tuple[int, ...]) -> None:
    assert color(data) == want


def test_half_transparent_is_mixed_with_white() -> None:
    (red, green, blue) = color(encoded(plain("RGBA", (100, 0, 255, 128))))
    # 128/255 of the colour and 127/255 of white, by hand: 50.2 + 127, 127, 255; rounding may be either way.
    assert abs(red - 177) <= 1
    assert abs(green - 127) <= 1
    assert blue == 255


def test_an_animation_is_its_first_frame() -> None:
    frames = [plain("RGB", c).convert("P") for c in ((255, 0, 0), (0, 255, 0))]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert color(data) == (255, 0, 0)


def halves(width: int, height: int) -> Image.Image:
    """Left black, right white."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[:, width // 2 :] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("orientation", "want"),
    [
        (1, [[0, 255], [0, 255]]),
        (2, [[255, 0], [255, 0]]),  # mirrored
        (3, [[255, 0], [255, 0]]),  # turned around
        (6, [[0, 0], [255, 255]]),  # turned right: what was left is up
        (8, [[255, 255], [0, 0]]),  # turned left: what was left is down
        (9, [[0, 255], [0, 255]]),  # no such orientation
    ],
)
def test_a_camera_held_sideways(orientation: int, want: list[list[int]]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(encoded(halves(2, 2), exif=exif), 2, max_pixels=MOST)
    assert pixels[0].tolist() == want


@pytest.mark.parametrize("exif", [b"garbage", b"II*\0\x08\0\0\0\xff\xff\xff", b"MM\0*", b""])
def test_broken_metadata_leave_the_pixels_alone(exif: bytes) -> None:
    assert color(encoded(plain("L", 7), "JPEG", exif=b"Exif\0\0" + exif)) == (7, 7, 7)


def test_a_wide_image_is_cropped_in_the_middle() -> None:
    pixels = np.zeros((4, 12), np.uint8)
    pixels[:, 4:8] = np.arange(16).reshape(4, 4)
    found = decode(encoded(Image.fromarray(pixels)), 4, max_pixels=MOST)
    assert found[0].tolist() == np.arange(16).reshape(4, 4).tolist()
    turned = decode(encoded(Image.fromarray(pixels.T.copy())), 4, max_pixels=MOST)
    assert turned[1].tolist() == np.arange(16).reshape(4, 4).T.tolist()


def test_an_image_of_the_right_size_is_untouched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 5, 3), np.uint8)
    found = decode(encoded(Image.fromarray(pixels)), 5, max_pixels=MOST)
    assert (found == pixels.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (2, 3)])
def test_images_of_any_shape_fit(shape: tuple[int, int]) -> None:
    assert color(encoded(Image.new("RGB", shape, (1, 2, 3))), 8) == (1, 2, 3)


def test_equal_bytes_are_equal_pixels() -> None:
    data = encoded(Image.fromarray(np.random.default_rng(1).integers(0, 256, (37, 53, 3), np.uint8)), "JPEG")
    first = decode(data, 16, max_pixels=MOST)
    assert all((decode(data, 16, max_pixels=MOST) == first).all() for _ in range(3))
    assert len(np.unique(first)) > 10


# ------------------------------------------------------------------------------------------- broken on purpose


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def claimed(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


WHOLE = encoded(Image.fromarray(np.random.default_rng(2).integers(0, 256, (16, 16, 3), np.uint8)))
PHOTO = encoded(Image.fromarray(np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)), "JPEG")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "no bytes"),
        (b"", "no bytes"),
        (b"this is not an image", "not an image: starts with 74 68 69 73"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"%PDF-1.7", "not an image"),
        (WHOLE[:8], "not an image"),
        (WHOLE[: len(WHOLE) // 2], "truncated"),
        (PHOTO[: len(PHOTO) // 2], "truncated"),
        (PHOTO[:20], ""),
        (claimed(2000, 2000), "2000 x 2000 is more than 1000000 pixels"),
        (claimed(100_000, 100_000), "10000000000 pixels"),
        (claimed(2**31 - 1, 2**31 - 1), "pixels"),
        (claimed(64, 64), ""),
        (claimed(0, 5), ""),
    ],
)
def test_what_is_broken_says_why_in_one_line(data: bytes | None, reason: str) -> None:
    with pytest.raises(BadImage) as raised:
        decode(data, SIDE, max_pixels=MOST)
    assert reason in str(raised.value)
    assert 0 < len(str(raised.value)) < 300
    assert "\n" not in str(raised.value)


def test_the_limit_is_on_pixels_and_inclusive() -> None:
    data = encoded(Image.new("L", (20, 10)))
    assert decode(data, SIDE, max_pixels=200).shape == (3, SIDE, SIDE)
    with pytest.raises(BadImage, match="20 x 10 is more than 199 pixels"):
        decode(data, SIDE, max_pixels=199)


def only_bad_images(data: bytes) -> None:
    try:
        assert decode(data, 8, max_pixels=100_000).shape == (3, 8, 8)
    except BadImage as error:
        assert str(error)


MAGIC = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0", b"RIFF\0\0\0\0WEBP"]


@settings(max_examples=300)
@given(st.sampled_from(MAGIC), st.binary(max_size=200))
def test_no_bytes_raise_anything_else(magic: bytes, rest: bytes) -> None:
    only_bad_images(magic + rest)


@settings(max_examples=400)
@given(
    whole=st.sampled_from(
        [WHOLE, PHOTO, *(encoded(plain("P", 1), kind) for kind in ("GIF", "BMP", "TIFF", "PNG"))]
    ),
    cut=st.floats(0, 1),
    flips=st.integers(0, 5),
    seed=st.integers(0, 2**32),
)
def test_no_damage_raises_anything_else(whole: bytes, cut: float, flips: int, seed: int) -> None:
    data = bytearray(whole[: round(len(whole) * cut)])
    chance = random.Random(seed)
    for _ in range(flips if data else 0):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    only_bad_images(bytes(data))
