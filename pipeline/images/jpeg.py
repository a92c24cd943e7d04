"""Forms of JPEG and JPEG 2000 that are not decoded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pipeline.images.bad import BadImage
from pipeline.images.formats import not_supported

MOST_SCANS: Final = 100  # cameras and editors write 1 to 20; every scan passes over all pixels again
_SCAN, _END = 0xDA, 0xD9  # markers
_SCAN_BYTES: Final = b"\xff\xda"
_BARE: Final = (0x01, *range(0xD0, 0xD9))  # markers without a length
_AFTER_SCAN: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_FRAMES: Final = frozenset(
    (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7)
)
_LOSSLESS: Final = (0xC3, 0xC7, 0xCB, 0xCF)
_HIERARCHICAL: Final = (0xC5, 0xC6, 0xCD, 0xCE)
_JPEG_LS: Final = 0xF7
_SIZE: Final = b"\xff\x4f\xff\x51"  # a codestream begins with the sizes of its components
_COUNT, _FIRST, _EACH = 40, 42, 3  # places of the components from there
_SIGNED: Final = 0x80
_MOST_BITS: Final = 38  # of the standard: more is damage, which the decoder finds


def check_scans(data: bytes | memoryview) -> None:
    """Refuse a progressive file of so many scans that it takes minutes.

    Without progression a scan takes at least six bits for each block of 64 pixels, so that time follows from bytes.

    Raises:
        BadImage: it has more than `MOST_SCANS`.
    """
    data = bytes(data)
    # Nearly all files end here. Metadata, or a movie behind the picture, may hold these bytes by chance.
    if data.count(_SCAN_BYTES) <= MOST_SCANS:
        return
    scans = 0
    for marker, _ in _segments(data):
        scans += marker == _SCAN
        if scans > MOST_SCANS:
            raise BadImage(f"too many scans: more than {MOST_SCANS}")


def form_of_jpeg(data: bytes | memoryview) -> str | None:
    """Name the form of a JPEG that no decoder here knows.

    None if its frame is a usual one, or cannot be found.
    """
    data = bytes(data)
    for marker, place in _segments(data):
        if marker not in _FRAMES:
            continue
        bits = data[place + 4] if place + 4 < len(data) else 8
        if marker == _JPEG_LS:
            return "JPEG-LS"
        if marker in _LOSSLESS:
            return f"lossless JPEG of {bits} bits"
        if marker in _HIERARCHICAL:
            return "hierarchical JPEG"
        return f"JPEG of {bits} bits" if bits in (12, 16) else None
    return None


def check_jpeg2000(data: bytes | memoryview, mode: str) -> None:
    """Refuse forms that Pillow misreads.

    These are wide samples of colours, whose white becomes black, and signed samples.

    Args:
        data: the file.
        mode: Pillow's, as it would be decoded.

    Raises:
        BadImage: it is of such a form.
    """
    start = bytes(data).find(_SIZE)
    if start < 0:
        return  # Pillow says so itself
    head = bytes(data[start : start + _FIRST + 4 * _EACH])
    count = min(4, int.from_bytes(head[_COUNT:_FIRST], "big"))
    kinds = head[_FIRST : _FIRST + count * _EACH : _EACH]
    if any(kind & _SIGNED and (kind & ~_SIGNED) < _MOST_BITS for kind in kinds):
        raise not_supported("JPEG2000 of signed samples")
    bits = max((kind + 1 for kind in kinds), default=8)
    if 8 < bits <= _MOST_BITS and mode != "I;16":
        raise not_supported(f"JPEG2000 of {bits}-bit colours")


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the markers of the first picture, and their places."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # filling
            place += 1
            continue
        if marker == _END:
            return
        yield marker, place
        place += 2
        if marker not in _BARE:
            place += int.from_bytes(data[place : place + 2], "big")
        if marker == _SCAN:
            following = _AFTER_SCAN.search(data, place)
            if following is None:
                return
            place = following.start()
