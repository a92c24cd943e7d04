"""Eight bits from wider samples.

Grey levels of 9 to 16 unsigned bits have a range of their own, which maps onto 0 to 255. Signed and 32-bit integers and
floats have none that a file tells; see `span`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.images.bad import BadImage

SPANS: Final = (1.0, 255.0, 4095.0, 65535.0)
_SAMPLE: Final = 1_000_000  # pixels that tell a range
_TAIL: Final = 0.01  # share of the pixels on either side that cannot
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of a TIFF
_WHITE_IS_ZERO, _SIGNED = 0, 2


def is_wide(image: Image.Image) -> bool:
    """Return whether an image's samples need `eight_bits`."""
    return image.mode == "F" or image.mode.startswith("I") or (image.mode == "L" and _signed(image))


def eight_bits(image: Image.Image) -> Image.Image:
    """Map grey levels of any type onto 0 to 255.

    Returns:
        An image of mode L.

    Raises:
        BadImage: no sample is a number.
    """
    tags = _tags(image)
    values = _values(image)
    if (top := _declared(image, tags)) is not None:
        scaled = _declared_to_bytes(values, top)
    else:
        low, high = span(values)
        scaled = _stretched(values, low, high)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO and image.mode != "L":  # of mode L, Pillow has done so
        np.subtract(255, scaled, out=scaled)
    return Image.fromarray(scaled)


def span(values: NDArray[Any]) -> tuple[float, float]:
    """Find the range of samples that have none of their own.

    The first of 0 to 1, 0 to 255, 0 to 4095 and 0 to 65535 that holds the values from the 1st to the 99th percentile;
    if none does, that stretch itself. So one bright pixel, or one below zero, tips nothing. Values outside are cut,
    what is no number is left out. The percentiles are of at most a million evenly spaced pixels.

    Args:
        values: of any shape and number type.

    Returns:
        What becomes 0, and what becomes 255.

    Raises:
        BadImage: no value is a number.
    """
    flat = values.reshape(-1)
    with np.errstate(invalid="ignore"):  # signalling NaN
        seen = flat[:: max(1, -(-flat.size // _SAMPLE))].astype(np.float64)
    seen = np.sort(seen[np.isfinite(seen)])
    if not seen.size:
        raise BadImage("no numbers: all samples are NaN or infinite")
    last = seen.size - 1
    low, high = float(seen[int(np.ceil(_TAIL * last))]), float(seen[int(np.floor((1 - _TAIL) * last))])
    if low > high:  # of very few pixels
        low, high = float(seen[0]), float(seen[-1])
    if low >= 0:
        for top in SPANS:
            if high <= top:
                return 0.0, top
    if low == high:
        low, high = float(seen[0]), float(seen[-1])
    if low == high:  # of one value: white above zero, black below
        low, high = min(low, 0.0), max(high, 0.0)
    return low, high


def _values(image: Image.Image) -> NDArray[Any]:
    values = np.asarray(image)
    tags = _tags(image)
    if image.mode == "L":
        return values.view(np.int8)
    if image.mode == "I" and tags.get(_BITS) == (32,) and tags.get(_SAMPLE_FORMAT, (1,)) == (1,):
        return values.view(np.uint32)
    return values


def _declared(image: Image.Image, tags: dict[int, Any]) -> int | None:
    """Return the highest level that the file declares."""
    if image.mode.startswith("I;16"):
        return 4095 if tags.get(_BITS) == (12,) else 65535
    return 65535 if image.mode == "I" and image.format == "PPM" else None


def _declared_to_bytes(values: NDArray[Any], top: int) -> NDArray[np.uint8]:
    wide = values.astype(np.uint32)
    np.clip(wide, 0, top, out=wide)
    wide *= 255
    wide //= top
    return wide.astype(np.uint8)


def _stretched(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    exact = np.float32 if values.dtype.itemsize < 4 or values.dtype.kind == "f" else np.float64
    scaled: NDArray[Any] = np.nan_to_num(values.astype(exact), copy=False, nan=low, posinf=high, neginf=low)
    np.clip(scaled, low, high, out=scaled)
    np.subtract(scaled, low, out=scaled)
    np.multiply(scaled, 255.0 / (high - low), out=scaled)
    whole: NDArray[np.uint8] = np.rint(scaled, out=scaled).astype(np.uint8)
    return whole


def _signed(image: Image.Image) -> bool:
    return _tags(image).get(_SAMPLE_FORMAT) == (_SIGNED,)


def _tags(image: Image.Image) -> dict[int, Any]:
    tags: Any = getattr(image, "tag_v2", None)
    return tags if tags is not None else {}
