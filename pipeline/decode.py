"""From encoded bytes to the uint8 pixels that a model's transform declares. Pillow, on CPU tasks."""

from __future__ import annotations

import io
import warnings
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")


class BadImage(Exception):
    """This image cannot be used; the message is the reason that quarantine records."""


def decode(data: bytes | None, size: int, *, max_pixels: int) -> NDArray[np.uint8]:
    """Decode an image, scale its short side to `size` and crop the middle.

    Args:
        data: an encoded image file.
        size: side of the result in pixels.
        max_pixels: refuse larger images before decoding them.

    Returns:
        (3, size, size) uint8 RGB.

    Raises:
        BadImage: anything is wrong with it.
    """
    if not data:
        raise BadImage("no bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata; the pixels decide
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise BadImage(f"{width} x {height} is more than {max_pixels} pixels")
                image.load()
                return _fit(_rgb(ImageOps.exif_transpose(image)), size)
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
