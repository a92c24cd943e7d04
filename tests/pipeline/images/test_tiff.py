"""Names of the forms of TIFF; that these are refused and no others is shown in test_samples."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import UnidentifiedImageError

from pipeline.images.bad import BadImage
from pipeline.images.picture import picture
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


def test_grey_that_is_multiplied_by_its_alpha_lies_on_white() -> None:
    """Half of it: 100 are 200 at half opacity, and on white 100 + 127."""
    values = np.dstack([np.full((4, 5), 100, np.uint8), np.full((4, 5), 128, np.uint8)])
    data = written(values, photometric="minisblack", planarconfig="contig", extrasamples=["assocalpha"])
    assert np.abs(np.asarray(picture(data, 1000)).astype(int) - 227).max() <= 1
    clear = written(values * 0, photometric="minisblack", planarconfig="contig", extrasamples=["assocalpha"])
    with pytest.raises(BadImage, match=r"^wholly transparent$"):
        picture(clear, 1000)


@pytest.mark.parametrize(("across", "refused"), [(1, False), (2, True)])
def test_coarser_colours_without_compression_are_named(across: int, refused: bool) -> None:
    """Written by hand: 4 x 4 equal pixels of YCbCr, with a tag that says how many share their colours."""
    body = bytes([100, 128, 128]) * 16
    tags = [(256, 4), (257, 4), (258, 8), (259, 1), (262, 6), (273, 8), (277, 3), (278, 4), (279, len(body))]
    entries = [struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags if tag != 258]
    entries.insert(2, struct.pack("<HHII", 258, 3, 3, 8 + len(body)))
    entries.append(struct.pack("<HHIHH", 530, 3, 2, across, across))
    table = struct.pack("<HHH", 8, 8, 8) + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    data = b"II*\0" + struct.pack("<I", 8 + len(body) + 6) + body + table
    if refused:
        with pytest.raises(BadImage, match=r"supported here: YCbCr, 3 x 8 bits, unsigned, coarser colours$"):
            picture(data, 1000)
    else:
        assert np.asarray(picture(data, 1000)).tolist() == [[[100, 100, 100]] * 4] * 4
