"""One picture for people and for the model: thumbnails against transforms, for every form that is decoded."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.images.bad import BadImage
from pipeline.images.decode import Transform, decode
from pipeline.images.picture import picture
from pipeline.images.thumbnail import thumbnail
from tests.support.corpus import MAX_PIXELS, Case, cases
from tests.support.odd_images import encoded, photo

CORPUS = cases(0)
SCORED = [case for case in CORPUS if case.fate == "scored"]
REFUSED = [case for case in CORPUS if case.fate == "quarantined"]


def shown(data: bytes, side: int) -> NDArray[np.uint8]:
    """What people see: the pixels of a thumbnail, (height, width, 3)."""
    made = thumbnail(data, side=side, max_pixels=MAX_PIXELS)
    assert made is not None
    with Image.open(io.BytesIO(made)) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


def middle(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The square in the middle, with the channels first."""
    top, left = (round((length - side) / 2) for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side].transpose(2, 0, 1)


@pytest.mark.parametrize("case", SCORED, ids=[case.name for case in SCORED])
def test_people_see_what_the_model_sees(case: Case) -> None:
    size = picture(case.data, MAX_PIXELS).size
    seen = decode(case.data, Transform(min(size), None, "bilinear", MAX_PIXELS))
    assert np.array_equal(middle(shown(case.data, max(size)), min(size)), seen)


@pytest.mark.parametrize("case", REFUSED, ids=[case.name for case in REFUSED])
def test_people_see_nothing_of_what_the_model_refuses(case: Case) -> None:
    assert thumbnail(case.data, max_pixels=MAX_PIXELS) is None
    with pytest.raises(BadImage):
        picture(case.data, MAX_PIXELS)


def test_a_picture_is_upright_and_plain() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # held sideways
    wide = photo(np.random.default_rng(0), 40, 30)
    assert picture(encoded(wide, "PNG", exif=exif), MAX_PIXELS).size == (30, 40)
    for case in SCORED:
        assert picture(case.data, MAX_PIXELS).mode in ("L", "RGB"), case.name


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16"])
def test_scaled_thumbnails_are_of_the_whole_picture(mode: str) -> None:
    """No coarser decoding on the way: a large JPEG's thumbnail is that of its own pixels as a PNG."""
    image = photo(np.random.default_rng(0), 800, 600).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":  # shown as the eight bits that the model gets
        deep = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        assert thumbnail(encoded(deep, "PNG")) == thumbnail(encoded(image, "PNG"))
        return
    data = encoded(image, "JPEG", quality=90)
    same = encoded(Image.fromarray(np.asarray(picture(data, MAX_PIXELS))), "PNG")
    assert thumbnail(data) == thumbnail(same)


def test_thumbnails_carry_nothing_but_pixels() -> None:
    data = encoded(photo(np.random.default_rng(0)), "PNG", icc_profile=b"profile" * 100)
    made = thumbnail(data)
    assert made is not None
    with Image.open(io.BytesIO(made)) as image:
        image.load()
        assert not image.info


def test_what_pillow_calls_unsupported_is_not_called_broken() -> None:
    """A BMP that is a PNG inside, as printers take it."""
    data = bytearray(encoded(photo(np.random.default_rng(0)), "BMP"))
    data[28:34] = bytes([0, 0, 5, 0, 0, 0])
    with pytest.raises(BadImage, match=r"^this form of BMP is not supported here: Unsupported BMP "):
        picture(bytes(data), MAX_PIXELS)
