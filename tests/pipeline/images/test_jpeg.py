"""JPEGs that are not decoded: their names, and a bound on scans; JPEG 2000 whose samples Pillow would misread."""

from __future__ import annotations

import time

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from pipeline.images.bad import BadImage
from pipeline.images.jpeg import MOST_SCANS, check_jpeg2000, check_scans, form_of_jpeg
from pipeline.images.picture import picture
from tests.support.odd_images import encoded, photo

PHOTO = photo(np.random.default_rng(0), 64, 48)
GREY = np.asarray(PHOTO.convert("L"))
PROGRESSIVE = encoded(PHOTO, "JPEG", progressive=True)
SCANS = PROGRESSIVE.count(b"\xff\xda")  # as Pillow writes them


def with_scans(more: int, side: int = 64) -> bytes:
    """A progressive file whose last scan stands there so many times more."""
    image = Image.new("L", (side, side))
    image.paste(200, (0, 0, 16, 16))
    data = encoded(image, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * more + data[-2:]


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (imagecodecs.jpeg8_encode(GREY.astype(np.uint16) * 16, bitspersample=12), "JPEG of 12 bits"),
        (imagecodecs.ljpeg_encode(GREY.astype(np.uint16) * 257), "lossless JPEG of 16 bits"),
        (imagecodecs.jpegls_encode(GREY), "JPEG-LS"),
    ],
)
def test_forms_that_are_not_decoded_are_named(data: bytes, form: str) -> None:
    assert form_of_jpeg(data) == form
    assert form_of_jpeg(memoryview(data)) == form
    with pytest.raises(BadImage, match=f"^{form} is not supported here$"):
        picture(data, 1_000_000)


@pytest.mark.parametrize(
    "data",
    [PROGRESSIVE, encoded(PHOTO, "JPEG"), b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\xff\xff", PROGRESSIVE[:100]],
)
def test_what_is_usual_or_broken_has_no_form(data: bytes) -> None:
    assert form_of_jpeg(data) is None


def test_a_file_of_many_scans_is_refused_before_it_is_decoded() -> None:
    """500 scans of 49 megapixels, in 229 kB, took 14 seconds and more."""
    data = with_scans(500, side=7000)
    assert len(data) < 300_000
    began = time.process_time()
    with pytest.raises(BadImage, match=r"^too many scans: more than 100$"):
        picture(data, 50_000_000)
    assert time.process_time() - began < 1


def test_as_many_scans_as_are_allowed_are_decoded() -> None:
    usual = with_scans(0).count(b"\xff\xda")
    check_scans(with_scans(MOST_SCANS - usual))
    assert picture(with_scans(MOST_SCANS - usual), 10_000).size == (64, 64)
    with pytest.raises(BadImage, match="too many scans"):
        check_scans(with_scans(MOST_SCANS - usual + 1))


def test_what_stands_in_metadata_or_behind_the_picture_is_no_scan() -> None:
    noise = b"\xff\xda\0\x0c" * 10_000
    assert SCANS < 20
    data = encoded(PHOTO, "JPEG", progressive=True, comment=noise[:60_000]) + noise
    assert data.count(b"\xff\xda") > 1000
    check_scans(data)
    assert np.array_equal(np.asarray(picture(data, 10_000)), np.asarray(picture(PROGRESSIVE, 10_000)))


COLOURS = np.full((8, 8, 3), 65535, np.uint16)


@pytest.mark.parametrize("codec", ["j2k", "jp2"])
def test_wide_colours_are_refused_by_their_bits(codec: str) -> None:
    data = imagecodecs.jpeg2k_encode(COLOURS, level=0, codecformat=codec)
    with pytest.raises(BadImage, match="JPEG2000 of 16-bit colours is not supported here"):
        check_jpeg2000(data, "RGB")
    check_jpeg2000(data, "I;16")  # of one component Pillow keeps all sixteen


def test_eight_bits_are_taken() -> None:
    check_jpeg2000(imagecodecs.jpeg2k_encode(COLOURS.astype(np.uint8), level=0), "RGB")
    check_jpeg2000(b"no codestream", "RGB")
    check_jpeg2000(b"\xff\x4f\xff\x51", "RGB")


def test_signed_samples_are_refused() -> None:
    data = bytearray(imagecodecs.jpeg2k_encode(COLOURS.astype(np.uint8), level=0))
    data[bytes(data).index(b"\xff\x4f\xff\x51") + 42] |= 0x80
    with pytest.raises(BadImage, match="JPEG2000 of signed samples is not supported here"):
        check_jpeg2000(bytes(data), "RGB")


@pytest.mark.parametrize("depth", [0x7F, 0x73, 0xF3])
def test_more_bits_than_there_can_be_are_damage(depth: int) -> None:
    data = bytearray(imagecodecs.jpeg2k_encode(COLOURS.astype(np.uint8), level=0))
    data[bytes(data).index(b"\xff\x4f\xff\x51") + 42] = depth
    check_jpeg2000(bytes(data), "RGB")
    with pytest.raises(BadImage, match=r"^broken JPEG2000: "):
        picture(bytes(data), 1_000_000)
