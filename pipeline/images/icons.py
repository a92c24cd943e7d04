"""Sizes of the pictures in icon files, before one is decoded.

An icon's directory tells a size, and the picture that it points to may have another: Pillow believes the picture.
"""

from __future__ import annotations

import re
import struct
from typing import Final

_PNG: Final = re.compile(rb"\x89PNG\r\n\x1a\n....IHDR(?P<width>....)(?P<height>....)", re.DOTALL)
_JP2: Final = re.compile(rb"ihdr(?P<height>....)(?P<width>....)", re.DOTALL)
_CODESTREAM: Final = re.compile(rb"\xff\x4f\xff\x51....(?P<width>....)(?P<height>....)", re.DOTALL)
_ENTRY: Final = 16  # bytes of an entry of an ICO's directory, behind six of its head
_HEAD: Final = 6


def sizes(data: bytes | memoryview) -> list[tuple[int, int]]:
    """Return width and height of all pictures in an icon file."""
    data = bytes(data)
    found = [
        (int.from_bytes(match["width"], "big"), int.from_bytes(match["height"], "big"))
        for kind in (_PNG, _JP2, _CODESTREAM)
        for match in kind.finditer(data)
    ]
    return found + _bitmaps(data)


def _bitmaps(data: bytes) -> list[tuple[int, int]]:
    """Return the sizes of an ICO's bitmaps.

    Their height in the file counts a mask too.
    """
    if data[:4] != b"\0\0\1\0":
        return []
    found = []
    for number in range(int.from_bytes(data[4:6], "little")):
        entry = data[_HEAD + number * _ENTRY : _HEAD + (number + 1) * _ENTRY]
        if len(entry) < _ENTRY:
            break
        (offset,) = struct.unpack("<I", entry[12:])
        head = data[offset : offset + 12]
        if len(head) == 12 and head[:4] != b"\x89PNG":
            width, height = struct.unpack("<ii", head[4:])
            found.append((abs(width), abs(height) // 2))
    return found
