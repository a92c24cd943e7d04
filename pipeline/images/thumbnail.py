"""A small png of any image file."""

from __future__ import annotations

import io
import warnings

from pipeline.images.picture import FORMATS


def thumbnail(image: bytes, side: int = 96, max_pixels: int = 50_000_000) -> bytes | None:
    """A small PNG of an image file.

    Args:
        image: the file's bytes, from anywhere.
        side: the longest side of the thumbnail in pixels; a smaller image is enlarged by a whole factor.
        max_pixels: an image with more is not decoded.

    Returns:
        PNG bytes, or None for what can't be decoded. Never raises on bad data.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(image), formats=FORMATS) as opened:
                if opened.width * opened.height > max_pixels:
                    return None
                opened.draft("RGB", (2 * side, 2 * side))
                small = opened.convert("RGB")
            factor = side // max(small.size)
            if factor >= 1:
                small = small.resize((small.width * factor, small.height * factor), Image.Resampling.NEAREST)
            small.thumbnail((side, side))
            small.info = {}  # no profile or comment of the original travels on
            buffer = io.BytesIO()
            small.save(buffer, "PNG")
            return buffer.getvalue()
    except Exception:  # noqa: BLE001 - decoders meet hostile bytes and raise whatever they like
        return None
