"""The picture in an image file, for people and the model alike.

The content decides the format, never the file's name. Only the first frame or page is read. Pixels are turned upright
as EXIF says, transparent pixels are laid on white, and values wider than 8 bits are scaled, not cut (see `samples`).
JPEGs are decoded in full: libjpeg's coarser decoding for small results is fast, but its pixels are not those that a
training run elsewhere has seen. A JPEG that ends before its end marker is truncated, even by its last two bytes: nobody
can tell whether they held pixels.
"""

from __future__ import annotations

import io
import re
import warnings
from contextlib import suppress
from typing import Final

import numpy as np
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from pipeline.images.bad import BadImage
from pipeline.images.formats import format_of, not_supported
from pipeline.images.hollow import check_hollow
from pipeline.images.icons import sizes
from pipeline.images.jpeg import check_jpeg2000, check_scans, form_of_jpeg
from pipeline.images.png import without_metadata
from pipeline.images.samples import eight_bits, is_wide
from pipeline.images.tiff import check_tiff, form_of_tiff, tile_of

# Where an orientation may stand.
_ORIENTATION: Final = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
_QUIET: Final = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_WHITE: Final = (255, 255, 255)
_DEPTH, _COLOUR = 24, 25  # bytes of a PNG
_TRUECOLOUR: Final = 2
_UNKNOWN: Final = re.compile(r"(un|not )(supported|implemented)", re.IGNORECASE)  # as Pillow says it


def picture(data: bytes | memoryview | None, max_pixels: int) -> Image.Image:
    """Decode an image file to its upright picture, before any scaling.

    Args:
        data: the encoded file.
        max_pixels: larger images are refused before they are decoded, which takes up to about 16 bytes a pixel.

    Returns:
        The picture, of mode RGB or L.

    Raises:
        BadImage: anything is wrong with it.
    """
    kind = format_of(data)
    assert data is not None
    _set_up_pillow(max_pixels)
    try:
        try:
            return _opened(data, kind, max_pixels)
        except (OSError, SyntaxError, ValueError):
            # Metadata may be damaged, or larger than Pillow reads, beside pixels that are whole.
            if kind != "PNG" or (bare := without_metadata(data)) is None:
                raise
            return _opened(bare, kind, max_pixels)
    except BadImage:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything on broken data, and it is all one thing
        raise _reason(error, data, kind, max_pixels) from None


def _opened(data: bytes | memoryview, kind: str, max_pixels: int) -> Image.Image:
    if kind in ("ICO", "ICNS"):  # which Pillow decodes as it opens them
        for size in sizes(data):
            _check_size(size, max_pixels)
    image: Image.Image = Image.open(io.BytesIO(data), formats=(kind,))
    _check_size(image.size, max_pixels)
    if kind == "JPEG" and "progressive" in image.info:
        check_scans(data)
    elif kind == "TIFF":
        _check_size(tile_of(image), max_pixels)
        check_tiff(image)
    elif kind == "JPEG2000":
        check_jpeg2000(data, image.mode)
    image.load()
    if not _ORIENTATION.isdisjoint(image.info):
        with suppress(Exception):  # broken metadata leave the pixels alone
            ImageOps.exif_transpose(image, in_place=True)
    if kind == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow takes all for Adobe's, which hold light instead of ink
    if kind == "PNG" and "transparency" in image.info:
        _scale_transparency(image, data)
    plain = _plain(image)
    check_hollow(plain, data, kind)
    return plain


def _set_up_pillow(max_pixels: int) -> None:
    """Silence Pillow's warnings of odd metadata, and lift its limit to ours.

    Both are settings of the process: a filter for every image would be slow, and is not safe with threads.
    """
    if _QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module=_QUIET[3].pattern)
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels


def _check_size(size: tuple[int, int], most: int) -> None:
    if size[0] * size[1] > most:
        raise Image.DecompressionBombError


def _scale_transparency(image: Image.Image, data: bytes | memoryview) -> None:
    """Scale a PNG's transparent level as Pillow has scaled its pixels."""
    depth, colour, level = data[_DEPTH], data[_COLOUR], image.info["transparency"]
    if image.mode == "L" and depth < 8 and isinstance(level, int):
        image.info["transparency"] = level * 255 // (2**depth - 1)
    elif depth == 16 and colour == _TRUECOLOUR:  # the pixels have lost the bits that would tell
        raise not_supported("PNG of 16-bit colours with a transparent one")


def _plain(image: Image.Image) -> Image.Image:
    """Return the same picture in mode RGB or L."""
    if is_wide(image):
        return _deep(image)
    if image.mode == "La":  # which Pillow converts to LA alone
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        layered = image if image.mode == "RGBA" else image.convert("RGBA")
        return _on_white(layered, layered.getchannel("A"))
    if image.mode in ("RGB", "L"):
        return image
    if image.mode == "LAB":
        raise not_supported("LAB")
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGB")


def _deep(image: Image.Image) -> Image.Image:
    """Return the picture of samples wider than 8 bits."""
    level = image.info.get("transparency")
    if not isinstance(level, int):
        return eight_bits(image)
    opaque = Image.fromarray(np.where(np.asarray(image) == level, 0, 255).astype(np.uint8))
    return _on_white(eight_bits(image).convert("RGB"), opaque)


def _on_white(image: Image.Image, alpha: Image.Image) -> Image.Image:
    if alpha.getextrema() == (0, 0):
        raise BadImage("wholly transparent")
    ground = Image.new("RGB", image.size, _WHITE)
    ground.paste(image, mask=alpha)
    return ground


def _reason(error: Exception, data: bytes | memoryview, kind: str, most: int) -> BadImage:
    text = "".join(c if c.isprintable() else " " for c in re.sub(r" at 0x[0-9a-fA-F]+", "", str(error)))
    text = " ".join(text.split())[:200]
    if isinstance(error, Image.DecompressionBombError):
        return BadImage(f"too many pixels: more than {most}")
    if isinstance(error, MemoryError):
        return BadImage(f"out of memory: {kind}")
    if kind == "TIFF" and (form := form_of_tiff(data, error)):
        return not_supported("this form of TIFF", form)
    if kind == "JPEG" and (form := form_of_jpeg(data)):
        return not_supported(form)
    if _UNKNOWN.search(text):
        return not_supported(f"this form of {kind}", text)
    if isinstance(error, UnidentifiedImageError):
        return BadImage(f"broken {kind}: no header that can be read")
    if "MAX_TEXT" in text:
        return BadImage(f"too much metadata: {kind}")
    if "truncated" in text.lower():
        return BadImage(f"truncated {kind}")
    if not isinstance(error, OSError | SyntaxError | ValueError):  # not meant by Pillow: its name tells more
        text = f"{type(error).__name__} {text}".strip()
    return BadImage(f"broken {kind}: {text}")
