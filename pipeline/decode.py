"""From encoded bytes to the uint8 pixels that a model's transform declares. Pillow, on CPU tasks."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
Interpolation = Literal["bilinear", "bicubic"]


class BadImage(Exception):
    """This image cannot be used; the message is the reason that quarantine records."""


@dataclass(frozen=True)
class Transform:
    """What becomes of an image before the model sees it: the short side scaled, then the middle cropped.

    Attributes:
        size: side of the result in pixels.
        resize: length of the short side before the crop, at least `size`; None means `size`.
        interpolation: how pixels are mixed when the image is scaled.
        max_pixels: larger images are refused before they are decoded.
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
        reasons: why, one line each; what stands before a colon names the kind of fault.
    """

    pixels: NDArray[np.uint8]
    good: list[int]
    bad: list[int]
    reasons: list[str]


def decode_batch(images: Sequence[bytes | memoryview | None], transform: Transform) -> Decoded:
    """Decode image files; what is wrong with one of them does not touch the others."""
    pixels = np.empty((len(images), 3, transform.size, transform.size), np.uint8)
    good: list[int] = []
    bad: list[int] = []
    reasons: list[str] = []
    for i, data in enumerate(images):
        try:
            pixels[len(good)] = decode(data, transform)
            good.append(i)
        except BadImage as error:
            bad.append(i)
            reasons.append(str(error))
    return Decoded(pixels[: len(good)], good, bad, reasons)


def decode(
    data: bytes | memoryview | None, transform: Transform | int, *, max_pixels: int = 50_000_000
) -> NDArray[np.uint8]:
    """Decode an image file.

    Returns:
        (3, size, size) uint8 RGB.

    Raises:
        BadImage: anything is wrong with it.
    """
    if isinstance(transform, int):
        transform = Transform(transform, None, "bilinear", max_pixels)
    if not data:
        raise BadImage("no bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata; the pixels decide
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > transform.max_pixels:
                    raise BadImage(f"{width} x {height} is more than {transform.max_pixels} pixels")
                image.load()
                return _fit(_rgb(ImageOps.exif_transpose(image)), transform.size)
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(f"not an image: starts with {bytes(data[:8]).hex(' ')}") from None
    except Exception as error:  # noqa: BLE001 - decoders raise anything on broken data, and it is all one thing
        text = " ".join(str(error).split())[:200]
        raise BadImage(f"{type(error).__name__}: {text}") from None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # wider than 8 bits: scaled by the nominal range
        values = np.asarray(image, dtype=np.float64)
        top = 255.0 if image.mode == "F" else 65535.0
        return Image.fromarray((values.clip(0.0, top) * (255.0 / top)).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        ground = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, layered).convert("RGB")
    return image.convert("RGB")


def _fit(image: Image.Image, size: int) -> NDArray[np.uint8]:
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))
