"""PNG files whose metadata are damaged or large."""

from __future__ import annotations

import struct
import zlib
from typing import Final

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_KEPT: Final = (b"tRNS",)
_TURNS: Final = (b"eXIf", b"iTXt", b"tEXt")  # an orientation may stand there
_MOST_TURN: Final = 65_536


def without_metadata(data: bytes | memoryview) -> bytes | None:
    """Return a PNG without the chunks that its picture does not need.

    Critical chunks and those of transparency stay as they are, so that damage in them is still found. Small metadata
    that may turn the picture stay where they are whole.

    Returns:
        The shorter file; None where nothing could be left out, or the chunks are no chunks.
    """
    kept, place, left_out = [_SIGNATURE], len(_SIGNATURE), False
    view = memoryview(data)
    while place + 12 <= len(view):
        (length,) = struct.unpack_from(">I", view, place)
        end = place + 12 + length
        if end > len(view):
            return None
        kind, chunk = bytes(view[place + 4 : place + 8]), view[place:end]
        if not kind.isalpha():
            return None
        critical = kind[:1].isupper() or kind in _KEPT
        if critical or (
            kind in _TURNS and length <= _MOST_TURN and _whole(chunk) and not _packed(kind, chunk)
        ):
            kept.append(bytes(chunk))
        else:
            left_out = True
        place = end
    kept.append(bytes(view[place:]))
    return b"".join(kept) if left_out else None


def _packed(kind: bytes, chunk: memoryview) -> bool:
    """Return whether text is compressed, and may unpack to any size."""
    _, _, rest = bytes(chunk[8:-4]).partition(b"\0")
    return kind == b"iTXt" and rest[:1] != b"\0"


def _whole(chunk: memoryview) -> bool:
    return chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4]))
