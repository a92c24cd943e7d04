"""Names of the forms of TIFF; that these are refused and no others is shown in test_samples."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import UnidentifiedImageError

from pipeline.images.tiff import form_of_tiff

GREY = np.zeros((4, 5), np.float64)


def written(values: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    tifffile.imwrite(sink, values, **options)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (written(GREY), "grey, 64 bits, float"),
        (written(GREY, byteorder=">"), "grey, 64 bits, float"),
        (written(GREY, bigtiff=True), "grey, 64 bits, float"),
        (written(GREY, byteorder=">", bigtiff=True), "BigTIFF, big endian"),
        (written(GREY, compression="zlib"), "grey, 64 bits, float, compression tiff_adobe_deflate"),
        (written(np.zeros((4, 5, 3), np.float32), photometric="rgb"), "RGB, 3 x 32 bits, float"),
        (written(np.zeros((4, 5), np.complex64), photometric="minisblack"), "grey, 64 bits, complex float"),
    ],
)
def test_a_form_has_its_parts(data: bytes, form: str) -> None:
    assert form_of_tiff(data, UnidentifiedImageError()) == form


def test_only_what_is_unknown_has_a_form() -> None:
    assert form_of_tiff(written(GREY), OSError("truncated")) is None
    assert form_of_tiff(b"II*\0\xff\xff\xff\xff", UnidentifiedImageError()) is None
    assert form_of_tiff(b"II*\0", UnidentifiedImageError()) is None
