"""From encoded bytes to the uint8 pixels that a model's transform declares. Pillow, on CPU tasks.

The content decides what a file is, never its name. Of several frames or pages the first is taken. Pixels are turned
as EXIF says, transparent ones lie on white, and values wider than 8 bits are scaled, not cut. JPEGs are decoded in
full: the coarser decoding that libjpeg offers for small results is fast, but its pixels are not those that
a training run elsewhere has seen.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
Interpolation = Literal["bilinear", "bicubic"]

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
_FILTERS: Final = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_TURNED: Final = {
    "exif",
    "xmp",
    "XML:com.adobe.xmp",
    "Raw profile type exif",
}  # where an orientation may stand
_QUIET: Final = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # tags of a TIFF
_STRIP: Final = 16  # a side this many times the other
_WHITE: Final = (255, 255, 255)


class BadImage(Exception):
    """This image cannot be used; the message is the reason that quarantine records.

    One line, the same for the same bytes. What stands before a colon names the kind of fault: `no bytes`,
    `not an image`, `too many pixels`, `too much metadata`, `out of memory`, `unsupported mode`, or a format that is
    `truncated` or `broken`.
    """


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
    if _QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module=_QUIET[3].pattern)
    if Image.MAX_IMAGE_PIXELS is not None and transform.max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = transform.max_pixels


def _decode(data: bytes | memoryview | None, transform: Transform, out: NDArray[np.uint8]) -> None:
    if not data:
        raise BadImage("no bytes")
    head = bytes(data[:12])
    kind = next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)
    if kind is None and head[:4] == b"RIFF" and head[8:] == b"WEBP":
        kind = "WEBP"
    if kind is None:
        raise BadImage(f"not an image: starts with {head[:8].hex(' ')}")
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=(kind,))
        _check_size(image, transform.max_pixels)
        image.load()
        if not _TURNED.isdisjoint(image.info):
            with suppress(Exception):  # broken metadata leave the pixels alone
                ImageOps.exif_transpose(image, in_place=True)
        _write(_fit(_plain(image), transform), out)
    except BadImage:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything on broken data, and it is all one thing
        raise BadImage(_why(error, kind, transform.max_pixels)) from None


def _check_size(image: Image.Image, most: int) -> None:
    shapes = [image.size]
    tags: Any = getattr(image, "tag_v2", None)
    if tags:  # a decoder holds a whole tile of a TIFF, however small the image
        shapes.append((tags.get(_TILE_WIDTH, 0), tags.get(_TILE_LENGTH, 0)))
    if max(width * height for width, height in shapes) > most:
        raise Image.DecompressionBombError


def _plain(image: Image.Image) -> Image.Image:
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


def _why(error: Exception, kind: str, most: int) -> str:
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
