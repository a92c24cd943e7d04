"""From encoded bytes to the uint8 pixels that a model's transform declares. Pillow, on CPU tasks.

The content decides what a file is, never its name. Of several frames or pages the first is taken. Pixels are turned
as EXIF says, transparent ones lie on white, and values wider than 8 bits are scaled, not cut. JPEGs are decoded in
full: the coarser decoding that libjpeg offers for small results is fast, but its pixels are not those that
a training run elsewhere has seen.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.images.picture import MAGIC, QUIET, TURNED, BadImage, check_size, plain, why

Interpolation = Literal["bilinear", "bicubic"]

_FILTERS: Final = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_STRIP: Final = 16  # a side this many times the other


@dataclass(frozen=True)
class Transform:
    """What becomes of an image before the model sees it: the short side scaled, then the middle cropped.

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
    """The images of a batch that could be decoded, and why the others could not.

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
    """Decode image files; what is wrong with one of them does not touch the others."""
    _prepare(transform)
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
    _prepare(transform)
    pixels = np.empty((3, transform.size, transform.size), np.uint8)
    _decode(data, transform, pixels)
    return pixels


def _prepare(transform: Transform) -> None:
    """Pillow's warnings of odd metadata say nothing about the pixels, and its own limit must not undercut ours.

    Both are settings of the process: a filter for every image would be slow, and is not safe with threads.
    """
    if QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module=QUIET[3].pattern)
    if Image.MAX_IMAGE_PIXELS is not None and transform.max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = transform.max_pixels


def _decode(data: bytes | memoryview | None, transform: Transform, out: NDArray[np.uint8]) -> None:
    if not data:
        raise BadImage("no bytes")
    head = bytes(data[:12])
    kind = next((kind for magic, kind in MAGIC if head.startswith(magic)), None)
    if kind is None and head[:4] == b"RIFF" and head[8:] == b"WEBP":
        kind = "WEBP"
    if kind is None:
        raise BadImage(f"not an image: starts with {head[:8].hex(' ')}")
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=(kind,))
        check_size(image, transform.max_pixels)
        image.load()
        if not TURNED.isdisjoint(image.info):
            with suppress(Exception):  # broken metadata leave the pixels alone
                ImageOps.exif_transpose(image, in_place=True)
        _write(_fit(plain(image), transform), out)
    except BadImage:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything on broken data, and it is all one thing
        raise BadImage(why(error, kind, transform.max_pixels)) from None


def _fit(image: Image.Image, transform: Transform) -> Image.Image:
    """The very pixels of torchvision's Resize and CenterCrop; of a strip, only its middle is scaled at all."""
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
