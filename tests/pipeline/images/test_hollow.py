"""Pictures of one colour: those that were lost are refused, those that are so are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.images.bad import BadImage
from pipeline.images.hollow import check_hollow
from pipeline.images.picture import picture
from tests.support.odd_images import encoded, photo


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
@pytest.mark.parametrize("size", [(8, 8), (40, 30), (640, 480), (1, 500)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_what_is_of_one_colour_is_shown(kind: str, size: tuple[int, int], mode: str) -> None:
    colour = 77 if mode == "L" else (10, 200, 77)
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    data = encoded(Image.new(mode, size, colour), kind, **options)
    pixels = np.asarray(picture(data, 1_000_000)).astype(int)
    assert np.abs(pixels - colour).max() <= 2
    assert np.array_equal(np.asarray(picture(data + bytes(100_000), 1_000_000)), pixels), (
        "nor by what follows"
    )


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_what_a_decoder_fills_in_is_refused(kind: str) -> None:
    data = encoded(photo(np.random.default_rng(0), 64, 64), kind)
    with pytest.raises(BadImage, match=f"broken {kind}: one colour"):
        check_hollow(Image.new("RGB", (64, 64), (128, 128, 128)), data, kind)
    almost = Image.new("RGB", (64, 64), (128, 128, 128))
    almost.putpixel((3, 5), (128, 128, 129))
    check_hollow(almost, data, kind)


def test_a_jpeg_without_its_tables_is_refused() -> None:
    """All steps of the quantization are zero: each block is grey."""
    image = photo(np.random.default_rng(0), 64, 64).convert("L")
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=90)
    data = bytearray(sink.getvalue())
    table = data.index(b"\xff\xdb")
    data[table + 5 : table + 5 + 64] = bytes(64)
    with pytest.raises(BadImage, match="broken JPEG: one colour"):
        picture(bytes(data), 1_000_000)
