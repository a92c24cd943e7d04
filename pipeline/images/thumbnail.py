"""Thumbnails of image files, made of the picture that the model sees."""

from __future__ import annotations

import base64
import io

from PIL import Image

from pipeline.images.bad import BadImage
from pipeline.images.picture import picture


def thumbnail(image: bytes, side: int = 96, max_pixels: int = 50_000_000) -> bytes | None:
    """Make a small PNG of an image file.

    Args:
        image: the file's bytes, from anywhere.
        side: the longest side of the thumbnail in pixels; a smaller image is enlarged by a whole factor.
        max_pixels: an image with more is not decoded.

    Returns:
        PNG bytes, or None for what can't be decoded. Never raises on bad data.
    """
    try:
        small = picture(image, max_pixels)
        factor = side // max(small.size)
        if factor >= 1:
            small = small.resize((small.width * factor, small.height * factor), Image.Resampling.NEAREST)
        small.thumbnail((side, side))
        small = small.convert("RGB")
        small.info = {}  # no profile or comment of the original travels on
        buffer = io.BytesIO()
        small.save(buffer, "PNG")
        return buffer.getvalue()
    except (BadImage, MemoryError):
        return None


def png_uri(png: bytes) -> str:
    """Return a PNG as a data URI for pages and tables."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
