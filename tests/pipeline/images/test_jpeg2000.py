"""JPEG 2000 whose samples Pillow would misread."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest

from pipeline.images.bad import BadImage
from pipeline.images.jpeg2000 import check_jpeg2000

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
