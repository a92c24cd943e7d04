"""From encoded bytes to a picture."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
from PIL import Image, UnidentifiedImageError

FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")

MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
)
TURNED: Final = {
    "exif",
    "xmp",
    "XML:com.adobe.xmp",
    "Raw profile type exif",
}  # where an orientation may stand
QUIET: Final = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # tags of a TIFF
_WHITE: Final = (255, 255, 255)


class BadImage(Exception):
    """This image cannot be used; the message is the reason that quarantine records.

    One line, the same for the same bytes. What stands before a colon names the kind of fault: `no bytes`,
    `not an image`, `too many pixels`, `too much metadata`, `out of memory`, `unsupported mode`, or a format that is
    `truncated` or `broken`.
    """


def check_size(image: Image.Image, most: int) -> None:
    """Raise Pillow's error for an image of more than `most` pixels."""
    shapes = [image.size]
    tags: Any = getattr(image, "tag_v2", None)
    if tags:  # a decoder holds a whole tile of a TIFF, however small the image
        shapes.append((tags.get(_TILE_WIDTH, 0), tags.get(_TILE_LENGTH, 0)))
    if max(width * height for width, height in shapes) > most:
        raise Image.DecompressionBombError


def plain(image: Image.Image) -> Image.Image:
    """The same picture in mode RGB or L."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layered = image if image.mode == "RGBA" else image.convert("RGBA")
        ground = Image.new("RGB", image.size, _WHITE)
        ground.paste(layered, mask=layered)
        return ground
    if image.mode in ("RGB", "L"):
        return image
    if image.mode == "LAB":
        raise BadImage("unsupported mode: LAB")
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "F":  # between 0 and 1 where all values are, else between 0 and 255
        values = np.nan_to_num(np.asarray(image), nan=0.0, posinf=255.0, neginf=0.0)
        if values.max() <= 1.0:
            values *= np.float32(255.0)
        return Image.fromarray(np.clip(values, 0.0, 255.0, out=values).astype(np.uint8))
    if image.mode.startswith("I"):  # the range of 16 bits, which 257 maps onto 8
        values = np.array(image)
        np.clip(values, 0, 65535, out=values)
        values //= 257
        return Image.fromarray(values.astype(np.uint8))
    return image.convert("RGB")


def why(error: Exception, kind: str, most: int) -> str:
    """Return the reason for what a decoder raised, in one line."""
    text = "".join(c if c.isprintable() else " " for c in re.sub(r" at 0x[0-9a-fA-F]+", "", str(error)))
    text = " ".join(text.split())[:200]
    if isinstance(error, Image.DecompressionBombError):
        return f"too many pixels: more than {most}"
    if isinstance(error, MemoryError):
        return f"out of memory: {kind}"
    if isinstance(error, UnidentifiedImageError):
        return f"broken {kind}: no header that can be read"
    if "MAX_TEXT" in text:
        return f"too much metadata: {kind}"
    if "truncated" in text.lower():
        return f"truncated {kind}"
    if not isinstance(error, OSError | SyntaxError | ValueError):  # not meant by Pillow: its name tells more
        text = f"{type(error).__name__} {text}".strip()
    return f"broken {kind}: {text}"
