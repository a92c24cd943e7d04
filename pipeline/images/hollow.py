"""Pictures of one colour that a decoder makes of damaged files.

Decoders of JPEG and JPEG 2000 fill with grey or black what they cannot read, and say nothing. A picture of one colour
takes few bytes; if a file holds many, its picture is lost.
"""

from __future__ import annotations

from typing import Final

from PIL import Image

from pipeline.images.bad import BadImage

_SCAN, _END = b"\xff\xda", b"\xff\xd9"  # markers of a JPEG
_TILES: Final = b"\xff\x93"  # of a JPEG 2000, before the data of the first tile
_HEAD: Final = 64  # bytes that even the smallest scan may take
_BLOCK: Final = 16  # pixels that are packed together, along a side
_PIXELS_A_BYTE: Final = 32  # of one colour, by component: a block of 64 pixels takes a byte or less


def check_hollow(image: Image.Image, data: bytes | memoryview, kind: str) -> None:
    """Refuse a picture of one colour whose file holds more.

    Args:
        image: the decoded picture.
        data: its file.
        kind: the file's format.

    Raises:
        BadImage: it is such a picture.
    """
    if kind not in ("JPEG", "JPEG2000"):
        return
    width, height = image.size
    first = image.getpixel((0, 0))
    if any(image.getpixel(at) != first for at in ((width - 1, height - 1), (width // 2, height // 2))):
        return
    spans = image.getextrema()
    if any(low != high for low, high in (spans if isinstance(spans[0], tuple) else (spans,))):
        return
    blocks = -(-width // _BLOCK) * -(-height // _BLOCK)
    most = _HEAD + blocks * _BLOCK**2 * len(image.getbands()) // _PIXELS_A_BYTE
    if _payload(bytes(data), kind) > most:
        raise BadImage(f"broken {kind}: one colour, from more bytes than that takes")


def _payload(data: bytes, kind: str) -> int:
    """Count the bytes of the compressed pixels."""
    if kind == "JPEG2000":
        start = data.find(_TILES)
        return data.rfind(_END) - start if start >= 0 else 0
    start = data.find(_SCAN)
    end = data.find(_END, start)
    return (end if end >= 0 else len(data)) - start if start >= 0 else 0
