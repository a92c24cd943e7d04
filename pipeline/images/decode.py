"""Encoded image files to the uint8 pixels that a model's transform declares.

The picture is that of `picture.picture`; here it is scaled and cropped for the model. Pillow, on CPU tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.images.bad import BadImage
from pipeline.images.formats import format_of
from pipeline.images.picture import picture

Interpolation = Literal["bilinear", "bicubic"]

_FILTERS: Final = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_STRIP: Final = 16  # a side this many times the other


@dataclass(frozen=True)
class Transform:
    """The scaling of images by their short side, and their crop.

    Attributes:
        size: side of the result in pixels.
        resize: length of the short side before the crop, at least `size`; None means `size`.
        interpolation: how pixels are mixed when the image is scaled.
        max_pixels: larger images are refused before they are decoded, which takes up to about 9 bytes a pixel.
    """

    size: int
    resize: int | None
    interpolation: Interpolation
    max_pixels: int


@dataclass(frozen=True)
class Decoded:
    """The decoded images of a batch, and the reasons for the others.

    Attributes:
        pixels: (k, 3, size, size) uint8 RGB.
        good: where the k images stood in the batch, ascending.
        bad: where the others stood, ascending.
        reasons: why, one line each, as in `BadImage`.
    """

    pixels: NDArray[np.uint8]
    good: list[int]
    bad: list[int]
    reasons: list[str]


def decode_batch(images: Sequence[bytes | memoryview | None], transform: Transform) -> Decoded:
    """Decode image files; a bad one affects no other."""
    pixels = np.empty((len(images), 3, transform.size, transform.size), np.uint8)
    good: list[int] = []
    bad: list[int] = []
    reasons: list[str] = []
    for i, data in enumerate(images):
        try:
            _decode(data, transform, pixels[len(good)])
            good.append(i)
        except BadImage as error:
            bad.append(i)
            reasons.append(str(error))
    return Decoded(pixels[: len(good)], good, bad, reasons)


def decode(data: bytes | memoryview | None, transform: Transform) -> NDArray[np.uint8]:
    """Decode an image file.

    Returns:
        (3, size, size) uint8 RGB.

    Raises:
        BadImage: anything is wrong with it.
    """
    pixels = np.empty((3, transform.size, transform.size), np.uint8)
    _decode(data, transform, pixels)
    return pixels


def _decode(data: bytes | memoryview | None, transform: Transform, out: NDArray[np.uint8]) -> None:
    image = picture(data, transform.max_pixels)
    try:
        _write(_fit(image, transform), out)
    except MemoryError:
        raise BadImage(f"out of memory: {format_of(data)}") from None


def _fit(image: Image.Image, transform: Transform) -> Image.Image:
    """Scale and crop exactly as torchvision's Resize and CenterCrop.

    Only the middle of a long strip is scaled at all.
    """
    size, short = transform.size, transform.resize or transform.size
    width, height = image.size
    longest = _STRIP * min(width, height)
    if max(width, height) > longest:
        image = _middle(image, min(width, longest), min(height, longest))
        width, height = image.size
    wide, high = (short, short * height // width) if width <= height else (short * width // height, short)
    if (wide, high) != (width, height):
        image = image.resize((wide, high), _FILTERS[transform.interpolation])
    return image if wide == high == size else _middle(image, size, size)


def _middle(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _write(image: Image.Image, out: NDArray[np.uint8]) -> None:
    if image.mode == "L":
        out[:] = np.frombuffer(image.tobytes(), np.uint8).reshape(out.shape[1:])
    else:  # rows of one colour each, which are faster to put in place than pixels
        rows = np.frombuffer(image.tobytes("raw", "RGB;L"), np.uint8)
        out[:] = rows.reshape(out.shape[1], 3, out.shape[2]).transpose(1, 0, 2)
