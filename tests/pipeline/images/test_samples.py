"""Wide samples: the range rule by hand, and every sample format against independent readers."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pipeline.images.bad import BadImage
from pipeline.images.picture import picture
from pipeline.images.samples import span

MOST = 1_000_000
RAMP = np.arange(2400).reshape(40, 60)  # of 60 columns and 40 rows


def shown(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(picture(data, MOST))


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    tifffile.imwrite(sink, values, **options)
    return sink.getvalue()


def by_range(values: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    """The levels from 0 to 255, not rounded."""
    return np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 255


# ------------------------------------------------------------------------------------------------- the range


@pytest.mark.parametrize(
    ("values", "want"),
    [
        ([0.0, 0.25, 1.0], (0, 1)),
        ([0, 200, 255], (0, 255)),
        ([0.0, 1.5], (0, 255)),
        ([0, 256], (0, 4095)),
        ([4096, 9], (0, 65535)),
        ([65536, 9], (9, 65536)),
        ([-1.0, 1.0], (-1, 1)),
        ([7e9], (0, 7e9)),
        ([-3.0, -3.0], (-3, 0)),
        ([0.0, 0.0], (0, 1)),
        ([np.nan, 0.5, np.inf, -np.inf], (0, 1)),
    ],
)
def test_the_range_by_hand(values: list[float], want: tuple[float, float]) -> None:
    assert span(np.array(values)) == want


@given(st.integers(100, 5000), st.floats(1.1, 1e30), st.integers(0, 2**31))
def test_one_bright_pixel_or_a_dark_one_tips_nothing(count: int, bright: float, seed: int) -> None:
    values = np.random.default_rng(seed).uniform(0, 1, count).astype(np.float32)
    values[seed % count] = bright
    assert span(values) == (0, 1)
    values[seed % count] = -bright
    assert span(values) == (0, 1)


def test_what_holds_no_number_has_no_picture() -> None:
    with pytest.raises(BadImage, match="no numbers"):
        span(np.array([np.nan, np.inf]))


def test_a_range_of_millions_is_that_of_some() -> None:
    values = np.tile(np.linspace(-1, 1, 1000), 3001)
    low, high = span(values)
    assert low == pytest.approx(-0.98, abs=0.005)
    assert high == pytest.approx(0.98, abs=0.005)


# ------------------------------------------------------------------------------- against independent readers


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("colour", ["minisblack", "miniswhite"])
@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        (RAMP.astype(np.uint8), 0, 255),
        ((RAMP * 27).astype(np.uint16), 0, 65535),
        ((RAMP * 20 - 24_000).astype(np.int16), -24_000 + 20 * 24, -24_000 + 20 * 2375),
        ((RAMP * 1_700_000).astype(np.uint32), 1_700_000 * 24, 1_700_000 * 2375),
        ((RAMP * 1000 - 900_000).astype(np.int32), 1000 * 24 - 900_000, 1000 * 2375 - 900_000),
        ((RAMP / 2399).astype(np.float32), 0, 1),
        ((RAMP / 10).astype(np.float32), 0, 255),
    ],
    ids=["u8", "u16", "i16", "u32", "i32", "f32 of 1", "f32 of 255"],
)
def test_grey_tiffs(
    values: NDArray[Any], low: float, high: float, colour: str, order: str, compression: str | None
) -> None:
    data = tiff(values, photometric=colour, compression=compression, byteorder=order)
    try:
        found = shown(data).astype(np.float64)
    except BadImage as error:
        assert "this form of TIFF is not supported here" in str(error)
        # What Pillow lacks, or would read with its bytes turned round.
        assert (
            (colour == "miniswhite" and values.dtype in (np.int16, np.uint32, np.int32))
            or (colour == "miniswhite" and order == ">" and values.dtype.itemsize > 1)
            or (order == ">" and values.dtype == np.uint32)
            or (order == ">" and compression and (values.dtype.itemsize == 4 or values.dtype == np.int16))
        )
        return
    want = by_range(tifffile.imread(io.BytesIO(data)), low, high)
    if colour == "miniswhite":
        want = 255 - want
    assert np.abs(found - want).max() <= 1


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("kind", ["u8", "u16"])
@pytest.mark.parametrize("samples", [3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_colour_tiffs(order: str, samples: int, kind: str, planes: str, compression: str | None) -> None:
    base = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1], np.full_like(RAMP, 2399)], -1)[..., :samples]
    values = (base * (27 if kind == "u16" else 0.1)).astype(np.uint16 if kind == "u16" else np.uint8)
    if samples == 4:
        values[..., 3] = 65535 if kind == "u16" else 255
    options: Mapping[str, Any] = {"extrasamples": ["unassalpha"]} if samples == 4 else {}
    stored = values if planes == "contig" else np.moveaxis(values, -1, 0)
    options = {**options, "planarconfig": planes, "compression": compression, "byteorder": order}
    data = tiff(stored, photometric="rgb", **options)
    if kind == "u16" and planes == "separate" and compression is None:
        with pytest.raises(
            BadImage, match=f"not supported here: RGB, {samples} x 16 bits, unsigned, separate"
        ):
            shown(data)
        return
    want = values[..., :3] >> 8 if kind == "u16" else values[..., :3]
    assert np.array_equal(shown(data), want)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.uint64, np.int64])
def test_forms_that_pillow_lacks_have_a_name(dtype: type) -> None:
    with pytest.raises(
        BadImage, match=f"this form of TIFF is not supported here: grey, {np.dtype(dtype).itemsize * 8} bits"
    ):
        shown(tiff(RAMP.astype(dtype)))


def test_samples_of_twelve_bits_have_their_own_range() -> None:
    values = (RAMP * 4095 // 2399).astype(np.uint16)
    data = tiff(values, bitspersample=12)
    assert np.array_equal(tifffile.imread(io.BytesIO(data)), values)
    assert np.abs(shown(data) - by_range(values, 0, 4095)).max() <= 1


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_grey_jpeg_2000_of_many_bits(bits: int) -> None:
    top = 2**bits - 1
    values = (RAMP * top // 2399).astype(np.uint16 if bits > 8 else np.uint8)
    data = imagecodecs.jpeg2k_encode(values, level=0, bitspersample=bits)
    assert np.array_equal(imagecodecs.jpeg2k_decode(data), values)
    # The highest of twelve bits comes as 65520 of 65535.
    assert np.abs(shown(data) - by_range(values, 0, top)).max() <= 1.1


@pytest.mark.parametrize("ending", [".png", ".pgm", ".jp2", ".tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_files_that_opencv_writes(ending: str, dtype: type) -> None:
    top = np.iinfo(dtype).max
    values = (RAMP * top // 2399).astype(dtype)
    fine, data = cv2.imencode(ending, values)
    assert fine
    stored = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    assert np.abs(shown(data.tobytes()) - by_range(stored, 0, top)).max() <= 1


@pytest.mark.parametrize("ending", [".png", ".ppm", ".jp2", ".tiff", ".bmp", ".webp", ".avif", ".jpg"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colour_files_that_opencv_writes(ending: str, dtype: type) -> None:
    if dtype == np.uint16 and ending in (".bmp", ".webp", ".avif", ".jpg"):
        dtype = np.uint8  # they have no wider samples
    top = np.iinfo(dtype).max
    values = (np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], -1) * top // 2399).astype(dtype)
    fine, data = cv2.imencode(ending, values)
    assert fine
    if ending == ".jp2" and dtype == np.uint16:  # Pillow would show its white as black
        with pytest.raises(BadImage, match="JPEG2000 of 16-bit colours is not supported here"):
            shown(data.tobytes())
        return
    stored = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)[..., ::-1]
    # Decoders of the lossy ones differ by a level or two in colour conversion.
    near = {".jpg": 3, ".avif": 3, ".webp": 3, ".jp2": 2}.get(ending, 1)
    assert np.abs(shown(data.tobytes()) - by_range(stored, 0, top)).max() <= near


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_transparent_level_of_few_bits_is_that_level(depth: int) -> None:
    """Against what the levels are by the standard: 255 / (2^depth - 1) apart."""
    top = 2**depth - 1

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    levels = np.arange(8) % (top + 1)
    bits = "".join(f"{level:0{depth}b}" for level in levels)
    row = int(bits, 2).to_bytes(len(bits) // 8, "big")
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 1, depth, 0, 0, 0, 0))
        + chunk(b"tRNS", struct.pack(">H", 0))
        + chunk(b"IDAT", zlib.compress(b"\0" + row))
        + chunk(b"IEND", b"")
    )
    want = np.where(levels == 0, 255, levels * 255 // top)
    assert np.array_equal(np.asarray(picture(data, MOST).convert("L"))[0], want)
    hidden = data.replace(chunk(b"tRNS", struct.pack(">H", 0)), chunk(b"tRNS", struct.pack(">H", 1)))
    want = np.where(levels == 1, 255, levels * 255 // top)
    assert np.array_equal(np.asarray(picture(hidden, MOST).convert("L"))[0], want)


@pytest.mark.parametrize(
    ("adobe", "want"),
    [
        (True, (0, 255, 0)),
        (False, (0, 0, 0)),  # the same samples taken for ink: none of the first and third, all black
    ],
)
def test_cmyk_of_a_jpeg_is_light_with_the_mark_of_adobe_and_ink_without(
    adobe: bool, want: tuple[int, ...]
) -> None:
    sink = io.BytesIO()
    Image.new("CMYK", (16, 16), (255, 0, 255, 0)).save(sink, "JPEG", quality=100)
    data = sink.getvalue()
    mark = data.index(b"\xff\xee")
    assert data[mark + 4 : mark + 9] == b"Adobe"
    if not adobe:
        data = data[:mark] + data[mark + 2 + int.from_bytes(data[mark + 2 : mark + 4], "big") :]
    assert np.abs(shown(data).reshape(-1, 3).mean(0) - want).max() <= 3
