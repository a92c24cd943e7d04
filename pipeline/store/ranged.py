"""Random access over few ranged requests, as each costs a round trip."""

from __future__ import annotations

import io
from collections.abc import Callable

NEAR = 256 << 10  # the least that is asked for: a Parquet footer, a tar header and what follows it
FAR = 4 << 20  # the most that is read ahead of somebody who reads from front to back
PAGE = 4 << 10  # the least where little of a file is wanted, such as headers
GAP = 64 << 10  # bytes between two such places, up to which one request for both pays


class RangedFile:
    """A read-only file whose bytes come from `fetch(first, count)`.

    One buffer is held. A read far from the last one brings at least `NEAR` bytes, so that a footer and its
    surroundings are one request; reads that go on where the last one ended bring twice as many each time, up to `FAR`;
    a read above that brings exactly its own bytes. What `fetch` raises passes through. Not for two threads at once
    (`pyarrow.PythonFile` keeps them apart).

    A `sparse` file is read here and there: a `PAGE` at a time where the places lie far apart; only where they are no
    farther from each other than `GAP`, what lies between them too.
    """

    def __init__(
        self, fetch: Callable[[int, int], bytes], size: int, tail: bytes = b"", *, sparse: bool = False
    ) -> None:
        """`tail`: the last bytes of the file, if they are known already."""
        self.size = size
        self.closed = False
        self._fetch = fetch
        self._at = 0
        self._near, self._gap = (PAGE, GAP) if sparse else (NEAR, 0)
        self._ahead = self._near
        self._held = tail
        self._first = size - len(tail)  # where in the file the held bytes begin
        self._reached: int | None = None  # where the last request ended

    def read(self, count: int = -1) -> bytes:
        """Read `count` bytes, or all that follow; fewer only at the end."""
        left = max(self.size - self._at, 0)
        count = left if count < 0 else min(count, left)
        at = self._at - self._first
        held = self._held[at : at + count] if at >= 0 else b""
        begin = self._at + len(held)
        self._at += count
        return held + self._missing(begin, count - len(held)) if len(held) < count else held

    def _missing(self, begin: int, count: int) -> bytes:
        """Fetch bytes that are not held, and buffer those read ahead."""
        goes_on = self._reached is not None and 0 <= begin - self._reached <= (self._gap or self._ahead)
        self._ahead = min(2 * self._ahead, FAR) if goes_on else self._near
        if count >= self._ahead:
            self._reached = begin + count
            return self._fetch(begin, count)
        first = begin if goes_on else max(0, min(begin, self.size - self._ahead))
        self._reached = min(first + self._ahead, self.size)
        self._held, self._first = self._fetch(first, self._reached - first), first
        return self._held[begin - first : begin - first + count]

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place; returns it in bytes from the start."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(f"{base + offset} lies before the start")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Return the place of the next read, in bytes from the start."""
        return self._at

    def readable(self) -> bool:
        """Return true."""
        return True

    def seekable(self) -> bool:
        """Return true."""
        return True

    def writable(self) -> bool:
        """Return false."""
        return False

    def close(self) -> None:
        """Let go of the buffer."""
        self.closed = True
        self._held = b""
