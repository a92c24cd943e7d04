"""Small pictures of any image file."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.images.thumbnail import thumbnail
from tests.support.report_views import png


@pytest.mark.parametrize(
    ("size", "expected"), [((8, 8), (96, 96)), ((300, 100), (96, 32)), ((40, 10), (80, 20))]
)
def test_thumbnails_fit_a_square(size: tuple[int, int], expected: tuple[int, int]) -> None:
    made = thumbnail(png(*size))
    assert made is not None
    with Image.open(io.BytesIO(made)) as image:
        assert image.size == expected
        assert image.format == "PNG"


def test_broken_images_have_no_thumbnail() -> None:
    whole = png(50, 50)
    broken = [
        b"",
        b"not an image",
        whole[:200],
        b"\x89PNG\r\n\x1a\n" + b"\xff" * 100,
        b"GIF89a" + b"\x01" * 40,
    ]
    assert [thumbnail(data) for data in broken] == [None] * len(broken)
    assert thumbnail(whole, max_pixels=2499) is None
    assert thumbnail(whole, max_pixels=2500) is not None
    rng = np.random.default_rng(0)
    for _ in range(200):  # one damaged byte: an image or none, but never an error
        damaged = bytearray(whole)
        damaged[rng.integers(len(damaged))] ^= int(rng.integers(1, 256))
        thumbnail(bytes(damaged))
