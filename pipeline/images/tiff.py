"""Forms of TIFF: which are decoded, and the names of the others."""

from __future__ import annotations

import io
from typing import Any, Final

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from pipeline.images.formats import not_supported

_WIDTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 258, 259, 262
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_PLANAR, _SAMPLE_FORMAT, _SUBSAMPLING = 284, 339, 530
_SEPARATE: Final = 2
_YCBCR: Final = 6
_UNPACKED: Final = 1
_BIG: Final = b"II+\0"  # the offsets of such a file have eight bytes
_BIG_ENDIAN: Final = b"MM\0+"
_COLOURS: Final = {
    0: "white is zero",
    1: "grey",
    2: "RGB",
    3: "palette",
    4: "mask",
    5: "CMYK",
    6: "YCbCr",
    8: "LAB",
    9: "ICC LAB",
    10: "ITU LAB",
    32803: "a camera's mosaic",
    34892: "linear raw",
}
_TYPES: Final = {1: "unsigned", 2: "signed", 3: "float", 4: "untyped", 5: "complex", 6: "complex float"}


def tile_of(image: Image.Image) -> tuple[int, int]:
    """Return width and length of a tile, zeros without tiles.

    A decoder holds a whole tile, however small the image.
    """
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    return tags.get(_TILE_WIDTH, 0), tags.get(_TILE_LENGTH, 0)


def check_tiff(image: Image.Image) -> None:
    """Refuse a TIFF whose pixels Pillow would misread.

    Raises:
        BadImage: it is one of these.
    """
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    bits = tags.get(_BITS, (1,))
    packed = tags.get(_COMPRESSION, _UNPACKED) != _UNPACKED
    separate = tags.get(_PLANAR) == _SEPARATE and len(bits) > 1
    if separate and max(bits) > 8 and not packed:  # read as if its samples had eight bits
        raise not_supported("this form of TIFF", _form(tags))
    if packed and image.mode in ("I", "F") and tags.prefix == b"MM":  # read in the machine's byte order
        raise not_supported("this form of TIFF", f"{_form(tags)}, big endian")
    coarse = tags.get(_PHOTOMETRIC) == _YCBCR and tags.get(_SUBSAMPLING, (1, 1)) != (1, 1)
    if coarse and not packed:  # read as if each pixel had colours of its own
        raise not_supported("this form of TIFF", f"{_form(tags)}, coarser colours")
    if len(bits) > 1 and set(tags.get(_SAMPLE_FORMAT, (1,))) - {1, 4}:
        raise not_supported("this form of TIFF", _form(tags))


def form_of_tiff(data: bytes | memoryview, error: Exception) -> str | None:
    """Describe a TIFF whose form Pillow does not know.

    None if it failed for another reason.
    """
    unknown = isinstance(error, UnidentifiedImageError) or "decoder error -2" in str(error)
    if not unknown:
        return None
    if bytes(data[:4]) == _BIG_ENDIAN:
        return "BigTIFF, big endian"
    try:
        stream = io.BytesIO(data)
        tags = TiffImagePlugin.ImageFileDirectory_v2(stream.read(16 if bytes(data[:4]) == _BIG else 8))
        stream.seek(tags.next)
        tags.load(stream)
        return _form(tags) if _WIDTH in tags and _PHOTOMETRIC in tags else None
    except Exception:  # noqa: BLE001 - a directory that cannot be read is that of a broken file
        return None


def _form(tags: Any) -> str:
    bits = tags.get(_BITS, (1,))
    kinds = [_TYPES.get(kind, str(kind)) for kind in tags.get(_SAMPLE_FORMAT, (1,))]
    colour = tags.get(_PHOTOMETRIC)
    parts = [
        _COLOURS.get(colour, f"colours {colour}"),
        f"{len(bits)} x {max(bits)} bits" if len(bits) > 1 else f"{bits[0]} bits",
        kinds[0],
    ]
    if tags.get(_PLANAR) == _SEPARATE:
        parts.append("separate planes")
    if (packed := tags.get(_COMPRESSION, _UNPACKED)) != _UNPACKED:
        parts.append(f"compression {TiffImagePlugin.COMPRESSION_INFO.get(packed, packed)}")
    return ", ".join(parts)
