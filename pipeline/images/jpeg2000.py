"""Forms of JPEG 2000 that Pillow misreads."""

from __future__ import annotations

from typing import Final

from pipeline.images.formats import not_supported

_SIZE: Final = b"\xff\x4f\xff\x51"  # a codestream begins with the sizes of its components
_COUNT, _FIRST, _EACH = 40, 42, 3  # places of the components from there
_SIGNED: Final = 0x80


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
    if any(kind & _SIGNED for kind in kinds):
        raise not_supported("JPEG2000 of signed samples")
    bits = max((kind + 1 for kind in kinds), default=8)
    if bits > 8 and mode != "I;16":
        raise not_supported(f"JPEG2000 of {bits}-bit colours")
