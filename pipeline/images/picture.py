"""The picture in an image file, for people and the model alike.

The content decides the format, never the file's name. Only the first frame or page is read. Pixels are turned upright
as EXIF says, transparent pixels are laid on white, and values wider than 8 bits are scaled, not cut. JPEGs are decoded
in full: libjpeg's coarser decoding for small results is fast, but its pixels are not those that a training run
elsewhere has seen.
"""

from __future__ import annotations

import io
import re
import warnings
from contextlib import suppress
from typing import Any, Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

_MAGIC: Final = (
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
# Where an orientation may stand.
_ORIENTATION: Final = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
_QUIET: Final = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # tags of a TIFF
_WHITE: Final = (255, 255, 255)


class BadImage(Exception):
    """An image that cannot be used; the message is quarantine's reason.

    The message is one line, the same for the same bytes. The text before its colon names the kind of fault:
    `no bytes`, `not an image`, `too many pixels`, `too much metadata`, `out of memory`, `unsupported mode`, or a format
    that is `truncated` or `broken`.
    """


def picture(data: bytes | memoryview | None, max_pixels: int) -> Image.Image:
    """Decode an image file to its upright picture, before any scaling.

    Args:
        data: the encoded file.
        max_pixels: larger images are refused before they are decoded, which takes up to about 9 bytes a pixel.

    Returns:
        The picture, of mode RGB or L.

    Raises:
        BadImage: anything is wrong with it.
    """
    kind = format_of(data)
    assert data is not None
    _set_up_pillow(max_pixels)
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=(kind,))
        _check_size(image, max_pixels)
        image.load()
        if not _ORIENTATION.isdisjoint(image.info):
            with suppress(Exception):  # broken metadata leave the pixels alone
                ImageOps.exif_transpose(image, in_place=True)
        return _plain(image)
    except BadImage:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything on broken data, and it is all one thing
        raise BadImage(_reason(error, kind, max_pixels)) from None


def format_of(data: bytes | memoryview | None) -> str:
    """Return the format that a file's first bytes tell, by Pillow's name.

    Raises:
        BadImage: there are no bytes, or those of no image.
    """
    if not data:
        raise BadImage("no bytes")
    head = bytes(data[:12])
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return "WEBP"
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    raise BadImage(f"not an image: starts with {head[:8].hex(' ')}")


def _set_up_pillow(max_pixels: int) -> None:
    """Silence Pillow's warnings of odd metadata, and lift its limit to ours.

    Both are settings of the process: a filter for every image would be slow, and is not safe with threads.
    """
    if _QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module=_QUIET[3].pattern)
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels


def _check_size(image: Image.Image, most: int) -> None:
    shapes = [image.size]
    tags: Any = getattr(image, "tag_v2", None)
    if tags:  # a decoder holds a whole tile of a TIFF, however small the image
        shapes.append((tags.get(_TILE_WIDTH, 0), tags.get(_TILE_LENGTH, 0)))
    if max(width * height for width, height in shapes) > most:
        raise Image.DecompressionBombError


def _plain(image: Image.Image) -> Image.Image:
    """Return the same picture in mode RGB or L."""
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


def _reason(error: Exception, kind: str, most: int) -> str:
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
