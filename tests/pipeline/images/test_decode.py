"""From encoded bytes to pixels: every mode by hand, and nothing but BadImage for what is broken."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import v2

from pipeline.images.bad import BadImage
from pipeline.images.decode import Transform, decode, decode_batch

SIDE = 4
MOST = 1_000_000


def to(size: int, **changes: Any) -> Transform:
    plain = {"size": size, "resize": None, "interpolation": "bilinear", "max_pixels": MOST}
    return Transform(**(plain | changes))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def color(data: bytes | None, size: int = SIDE) -> tuple[int, ...]:
    """The one colour of an image of one colour."""
    pixels = decode(data, to(size))
    assert (pixels.shape, pixels.dtype) == ((3, size, size), np.uint8)
    assert pixels.flags.c_contiguous
    (found,) = {tuple(p) for p in pixels.reshape(3, -1).T.tolist()}
    return found


def plain(mode: str, value: object) -> Image.Image:
    return Image.new(mode, (SIDE, SIDE), value)


def gray16(value: int) -> Image.Image:
    return Image.fromarray(np.full((SIDE, SIDE), value, np.uint16))


def but_for_one(mode: str, value: object) -> Image.Image:
    """An image of one colour but for a white, opaque pixel: what is wholly transparent has no picture."""
    image = plain(mode, value)
    image.putpixel((0, 0), {"L": 255, "RGB": (255,) * 3, "LA": (255,) * 2, "RGBA": (255,) * 4}[mode])
    return image


def palette(transparent: int | None) -> bytes:
    image = plain("P", 1)
    image.putpalette([0, 0, 0, 10, 20, 30, 255, 255, 255])
    if transparent == 1:
        image.putpixel((0, 0), 2)
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
        (encoded(but_for_one("LA", (100, 0))), (255, 255, 255)),
        (encoded(plain("RGBA", (10, 20, 30, 255))), (10, 20, 30)),
        (encoded(but_for_one("RGBA", (10, 20, 30, 0))), (255, 255, 255)),
        (encoded(but_for_one("RGB", (10, 20, 30)), transparency=(10, 20, 30)), (255, 255, 255)),
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


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(values: object, dtype: str, **options: object) -> bytes:
    """A TIFF of one value, in the byte order of `dtype`; 259 and 339 are compression and sample format."""
    return encoded(Image.fromarray(np.full((SIDE, SIDE), values, dtype)), "TIFF", **options)


def raw_tiff(
    order: str, bits: tuple[int, ...], photometric: int, sample: int, pixel: bytes, *more: tuple[int, ...]
) -> bytes:
    """An uncompressed TIFF of SIDE x SIDE equal pixels, written by hand: what no saver makes."""
    body = pixel * SIDE * SIDE
    depth = struct.pack(f"{order}{len(bits)}H", *bits)
    entries = [
        (256, 3, 1, SIDE), (257, 3, 1, SIDE), (258, 3, len(bits), bits[0]), (259, 3, 1, 1),
        (262, 3, 1, photometric), (273, 4, 1, 8), (277, 3, 1, len(bits)), (278, 3, 1, SIDE),
        (279, 4, 1, len(body)), (339, 3, 1, sample),
    ]  # fmt: skip
    table = 8 + len(body) + len(depth)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, table)
    rows = b""
    for tag, kind, count, value in sorted([*entries, *more]):
        if count > 1:
            rows += struct.pack(f"{order}HHII", tag, kind, count, 8 + len(body))
        elif kind == 3:
            rows += struct.pack(f"{order}HHIHH", tag, kind, count, value, 0)
        else:
            rows += struct.pack(f"{order}HHII", tag, kind, count, value)
    return head + body + depth + struct.pack(f"{order}H", len(entries) + len(more)) + rows + b"\0\0\0\0"


def png(
    depth: int, color: int, pixel: bytes, *more: tuple[bytes, bytes], first: bytes | None = None
) -> bytes:
    """A PNG of SIDE x SIDE equal pixels but for the `first`, written by hand."""
    header = struct.pack(">IIBBBBB", SIDE, SIDE, depth, color, 0, 0, 0)
    rows = (b"\0" + pixel * SIDE) * SIDE
    body = zlib.compress(b"\0" + (first or pixel) + rows[1 + len(first or pixel) :])
    chunks = [(b"IHDR", header), *more, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


@pytest.mark.parametrize(
    ("data", "want"),
    [
        (png(16, 2, b"\x0a\xff\x14\x00\x1e\x80"), (10, 20, 30)),
        (png(16, 6, b"\x0a\xff\x14\x00\x1e\x80\xff\xff"), (10, 20, 30)),
        (png(16, 4, b"\x64\x00\x00\x00", first=b"\xff" * 4), (255, 255, 255)),  # grey, with alpha
        (png(8, 0, b"\x64", (b"tRNS", b"\x00\x64"), first=b"\xff"), (255, 255, 255)),
        (png(16, 0, b"\x64\0", (b"tRNS", b"\x64\0"), first=b"\xff\xff"), (255, 255, 255)),
        (png(16, 0, b"\x64\0", (b"tRNS", b"\x64\1")), (99, 99, 99)),  # 25600 of 65535
        (
            png(
                8,
                3,
                b"\x01",
                (b"PLTE", b"\0\0\0\x0a\x14\x1e\xff\xff\xff"),
                (b"tRNS", b"\0\0"),
                first=b"\2",
            ),
            (255, 255, 255),
        ),
        (png(8, 3, b"\x01", (b"PLTE", b"\0\0\0\x0a\x14\x1e"), (b"tRNS", b"\0")), (10, 20, 30)),
        (raw_tiff("<", (16,), 1, 1, struct.pack("<H", 25700)), (100, 100, 100)),
        (raw_tiff(">", (16,), 1, 1, struct.pack(">H", 25700)), (100, 100, 100)),
        (raw_tiff("<", (16,), 0, 1, struct.pack("<H", 25700)), (155, 155, 155)),  # white is zero
        (raw_tiff("<", (8,), 0, 1, b"\x64"), (155, 155, 155)),
        (raw_tiff("<", (32,), 0, 3, struct.pack("<f", 0.4)), (153, 153, 153)),
        (raw_tiff("<", (8,), 1, 2, b"\x9c"), (0, 0, 0)),  # -100
        (raw_tiff(">", (16,), 1, 2, struct.pack(">h", -5)), (0, 0, 0)),
        (raw_tiff("<", (32,), 1, 1, struct.pack("<I", 25700)), (100, 100, 100)),
        (raw_tiff("<", (32,), 1, 2, struct.pack("<i", 2**31 - 1)), (255, 255, 255)),
        (raw_tiff("<", (32,), 1, 3, struct.pack("<f", 100.7)), (101, 101, 101)),
        (raw_tiff(">", (32,), 1, 3, struct.pack(">f", 0.4)), (102, 102, 102)),  # between 0 and 1
        (raw_tiff("<", (32,), 1, 3, struct.pack("<f", 3e38)), (255, 255, 255)),
        (raw_tiff("<", (16, 16, 16), 2, 1, struct.pack("<HHH", 0x0AFF, 0x1400, 0x1E80)), (10, 20, 30)),
        (raw_tiff("<", (8, 8, 8, 8), 5, 1, b"\0\xff\0\0"), (255, 0, 255)),
        (raw_tiff("<", (8, 8, 8), 6, 1, b"\x64\x80\x80"), (100, 100, 100)),
        (tiff(25700, "<u2", compression="tiff_lzw"), (100, 100, 100)),
        (encoded(plain("RGB", (10, 20, 30)), "TIFF", compression="tiff_adobe_deflate"), (10, 20, 30)),
        (encoded(plain("L", 100), "GIF"), (100, 100, 100)),
        (encoded(but_for_one("L", 100), "GIF", transparency=100), (255, 255, 255)),
        (encoded(but_for_one("RGBA", (10, 20, 30, 0)), "WEBP", lossless=True, exact=True), (255, 255, 255)),
        (encoded(plain("1", 1), "BMP"), (255, 255, 255)),
        (encoded(plain("CMYK", (0, 0, 0, 0)), "JPEG"), (255, 255, 255)),
    ],
)  # fmt: skip
def test_rare_modes_become_rgb(data: bytes, want: tuple[int, ...]) -> None:
    assert color(data) == want


def test_a_mode_without_a_way_to_rgb_says_so() -> None:
    with pytest.raises(BadImage, match=r"^LAB is not supported here$"):
        decode(raw_tiff("<", (8, 8, 8), 8, 1, b"\x64\0\0"), to(SIDE))


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("GIF", {})]
)
def test_of_many_frames_the_first_is_taken(kind: str, options: dict[str, object]) -> None:
    frames = [plain("RGB", c) for c in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3  # type: ignore[attr-defined]
    assert color(data) == (255, 0, 0)


def test_half_transparent_is_mixed_with_white() -> None:
    (red, green, blue) = color(encoded(plain("RGBA", (100, 0, 255, 128))))
    # 128/255 of the colour and 127/255 of white, by hand: 50.2 + 127, 127, 255; rounding may be either way.
    assert abs(red - 177) <= 1
    assert abs(green - 127) <= 1
    assert blue == 255


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
    pixels = decode(encoded(halves(2, 2), exif=exif), to(2))
    assert pixels[0].tolist() == want


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_format_is_turned_once(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    options: dict[str, object] = {"lossless": True} if kind == "WEBP" else {}
    pixels = decode(encoded(halves(16, 16).convert("RGB"), kind, exif=exif, **options), to(16))
    assert pixels[0, :6].max() < 20
    assert pixels[0, 10:].min() > 235


def test_a_turn_may_stand_in_xmp_alone() -> None:
    xmp = b"<x:xmpmeta><rdf:Description tiff:Orientation='3' tiff:Orientation=\"3\"/></x:xmpmeta>"
    pixels = decode(encoded(halves(2, 2).convert("RGB"), "WEBP", lossless=True, xmp=xmp), to(2))
    assert pixels[0].tolist() == [[255, 0], [255, 0]]


@pytest.mark.parametrize("exif", [b"garbage", b"II*\0\x08\0\0\0\xff\xff\xff", b"MM\0*", b""])
def test_broken_metadata_leave_the_pixels_alone(exif: bytes) -> None:
    assert color(encoded(plain("L", 7), "JPEG", exif=b"Exif\0\0" + exif)) == (7, 7, 7)


def test_a_wide_image_is_cropped_in_the_middle() -> None:
    pixels = np.zeros((4, 12), np.uint8)
    pixels[:, 4:8] = np.arange(16).reshape(4, 4)
    found = decode(encoded(Image.fromarray(pixels)), to(4))
    assert found[0].tolist() == np.arange(16).reshape(4, 4).tolist()
    turned = decode(encoded(Image.fromarray(pixels.T.copy())), to(4))
    assert turned[1].tolist() == np.arange(16).reshape(4, 4).T.tolist()


def test_an_image_of_the_right_size_is_untouched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 5, 3), np.uint8)
    found = decode(encoded(Image.fromarray(pixels)), to(5))
    assert (found == pixels.transpose(2, 0, 1)).all()


def by_torchvision(image: Image.Image, transform: Transform) -> NDArray[np.uint8]:
    chain = v2.Compose([
        v2.Resize(transform.resize or transform.size, v2.InterpolationMode(transform.interpolation)),
        v2.CenterCrop(transform.size),
        v2.PILToTensor(),
    ])  # fmt: skip
    result = chain(image)
    assert isinstance(result, torch.Tensor)
    return result.numpy()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    ("shape", "size", "resize"),
    [
        ((500, 375), 224, 256), ((375, 500), 224, 224), ((333, 500), 224, None), ((64, 64), 32, None),
        ((37, 91), 32, 40), ((91, 37), 17, 23), ((20, 31), 32, None), ((33, 32), 32, None), ((32, 35), 32, 32),
        ((256, 301), 224, 256), ((3, 48), 8, 9),
    ],
)  # fmt: skip
def test_scaling_is_torchvisions(
    shape: tuple[int, int], size: int, resize: int | None, mode: str, interpolation: str
) -> None:
    seed = np.random.default_rng(3).integers(0, 256, (*shape[::-1], 3), np.uint8)
    image = Image.fromarray(seed).convert(mode)
    transform = to(size, resize=resize, interpolation=interpolation)
    assert (decode(encoded(image), transform) == by_torchvision(image, transform)).all()


def test_a_long_strip_takes_no_memory_for_what_is_cropped() -> None:
    assert color(encoded(Image.new("L", (1, 900_000), 9)), 64) == (9, 9, 9)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (2, 3)])
def test_images_of_any_shape_fit(shape: tuple[int, int]) -> None:
    assert color(encoded(Image.new("RGB", shape, (1, 2, 3))), 8) == (1, 2, 3)


def test_equal_bytes_are_equal_pixels() -> None:
    data = encoded(Image.fromarray(np.random.default_rng(1).integers(0, 256, (37, 53, 3), np.uint8)), "JPEG")
    first = decode(data, to(16))
    assert all((decode(data, to(16)) == first).all() for _ in range(3))
    assert len(np.unique(first)) > 10


# ------------------------------------------------------------------------------------------- broken on purpose


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
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG is not supported here"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC is not supported here"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "not an image"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL is not supported here"),
        (b"PF\n1 1\n-1.0\n" + b"\0" * 12, "PFM in colour is not supported here"),
        (encoded(plain("RGBA", (10, 20, 30, 0))), "wholly transparent"),
        (encoded(plain("LA", (100, 0))), "wholly transparent"),
        (encoded(plain("RGB", (10, 20, 30)), transparency=(10, 20, 30)), "wholly transparent"),
        (encoded(plain("L", 100), "GIF", transparency=100), "wholly transparent"),
        (png(16, 0, b"\x64\0", (b"tRNS", b"\x64\0")), "wholly transparent"),
        (
            png(16, 2, b"\1\2" * 3, (b"tRNS", b"\1\3" * 3)),
            "PNG of 16-bit colours with a transparent one is not supported here",
        ),
        (raw_tiff("<", (32,), 1, 3, struct.pack("<f", float("nan"))), "no numbers: "),
        (raw_tiff("<", (32,), 1, 3, struct.pack("<f", float("inf"))), "no numbers: "),
        (
            raw_tiff("<", (64,), 1, 3, struct.pack("<d", 0.5)),
            "this form of TIFF is not supported here: grey, 64 bits, float",
        ),
        (
            raw_tiff("<", (16, 16, 16), 2, 1, b"\0\1" * 3, (284, 3, 1, 2)),
            "this form of TIFF is not supported here: RGB, 3 x 16 bits, unsigned, separate planes",
        ),
        (b"%PDF-1.7", "not an image"),
        (b"\x89PNG", "not an image: starts with 89 50 4e 47"),
        (WHOLE[:8], "broken PNG: no header that can be read"),
        (WHOLE[: len(WHOLE) // 2], "truncated PNG"),
        (PHOTO[: len(PHOTO) // 2], "truncated JPEG"),
        (PHOTO[:20], "JPEG"),
        (claimed(2000, 2000), "too many pixels: more than 1000000"),
        (claimed(100_000, 100_000), "too many pixels: more than 1000000"),
        (claimed(2**31 - 1, 2**31 - 1), "too many pixels"),
        (claimed(64, 64), "truncated PNG"),
        (claimed(0, 5), "broken PNG: "),
    ],
)
def test_what_is_broken_says_why_in_one_line(data: bytes | None, reason: str) -> None:
    with pytest.raises(BadImage) as raised:
        decode(data, to(SIDE))
    assert reason in str(raised.value)
    assert 0 < len(str(raised.value)) < 300
    assert str(raised.value).isprintable()


def test_the_limit_is_on_pixels_and_inclusive() -> None:
    data = encoded(Image.new("L", (20, 10)))
    assert decode(data, to(SIDE, max_pixels=200)).shape == (3, SIDE, SIDE)
    with pytest.raises(BadImage, match="too many pixels: more than 199"):
        decode(data, to(SIDE, max_pixels=199))


def test_the_limit_may_be_above_pillows_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert color(encoded(Image.new("L", (SIDE * 10, SIDE * 10), 9))) == (9, 9, 9)


def test_the_limit_holds_for_tiles() -> None:
    data = raw_tiff("<", (8,), 1, 1, b"\x64", (322, 3, 1, 4096), (323, 3, 1, 4096))
    with pytest.raises(BadImage, match="too many pixels: more than 1000000"):
        decode(data, to(SIDE))


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_metadata_that_unpack_to_megabytes_leave_the_pixels_alone(kind: bytes) -> None:
    packed = zlib.compress(b"a" * 20_000_000)
    data = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\x01\0\0\0", b"iCCP": b"k\0\0"}[kind] + packed
    assert color(png(8, 0, b"\x64", (kind, data))) == (100, 100, 100)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "out of memory: PNG"),
        (
            ValueError("no\n\x1b[31m luck with <X object at 0x7F00dead>"),
            "broken PNG: no [31m luck with <X object>",
        ),
        (KeyError(5), "broken PNG: KeyError 5"),
        (AssertionError(), "broken PNG: AssertionError"),
        (OSError("a" * 1000), "broken PNG: " + "a" * 200),
    ],
)
def test_whatever_a_decoder_raises_is_a_reason(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(Image, "open", broken)
    assert decode_batch([WHOLE], to(SIDE)).reasons == [reason]


@pytest.mark.parametrize("fault", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_no_reason(fault: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise fault

    monkeypatch.setattr(Image, "open", interrupted)
    with pytest.raises(fault):
        decode_batch([WHOLE], to(SIDE))


def test_what_pillow_warns_of_stays_inside(recwarn: pytest.WarningsRecorder) -> None:
    tag = struct.pack("<HHII", 270, 2, 1000, 2**31)  # text that lies beyond the end of the file
    data = bytearray(raw_tiff("<", (8,), 1, 1, b"\x64"))
    data[-4 - 12 : -4] = tag
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        decode_batch([bytes(data), WHOLE, b"II*\0\x08\0\0\0\xff"], to(SIDE))
        Image.open(io.BytesIO(bytes(data)), formats=["TIFF"]).load()
    assert not recwarn.list


def test_a_batch_is_its_images_one_by_one() -> None:
    images = [None, WHOLE, b"", memoryview(PHOTO), WHOLE[:50], PHOTO]
    decoded = decode_batch(images, to(SIDE))
    assert (decoded.good, decoded.bad) == ([1, 3, 5], [0, 2, 4])
    assert (decoded.pixels == np.stack([decode(images[i], to(SIDE)) for i in decoded.good])).all()
    assert decoded.reasons[:2] == ["no bytes", "no bytes"]
    assert decoded.reasons[2].startswith("truncated PNG")


@pytest.mark.parametrize("images", [[], [None]])
def test_a_batch_may_hold_nothing_good(images: list[bytes | None]) -> None:
    decoded = decode_batch(images, to(SIDE))
    assert (decoded.pixels.shape, decoded.good, len(decoded.bad)) == ((0, 3, SIDE, SIDE), [], len(images))


def only_bad_images(data: bytes) -> None:
    try:
        assert decode(data, to(8, max_pixels=100_000)).shape == (3, 8, 8)
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
