"""Pieces of a shard: bounded runs of rows as they are read.

Each row comes with its bytes, or with the reason why it has none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from pipeline.errors import ArtefactMissing, ObjectChanged, PipelineError, StoreUnavailable
from pipeline.pool.source import PoolSource
from pipeline.types import Listed

IMAGE_ENDS: Final = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif",
    ".avif", ".jp2", ".j2k", ".j2c", ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".qoi", ".psd", ".sgi",
    ".dds", ".ico",
)  # fmt: skip
MAX_SHOWN: Final = 200  # characters of a message from outside


Facts = tuple[str | None, ...]  # metadata of a row


@dataclass(frozen=True)
class Failure:
    """The reason why a row has no bytes.

    `attempts` is how often it was tried: more than one where the system was at fault.
    """

    reason: str
    attempts: int = 1
    stage: str = "read"


@dataclass(frozen=True)
class Piece:
    """Some rows of a shard, in ascending order.

    Of each row: place in the shard, id, URI, and bytes or the reason why there are none. Metadata, in the order of
    `pool.metadata`, are there for all rows or, where nobody asked for any or they can't be read, for none.
    """

    rows: list[int]
    ids: list[str]
    uris: list[str]
    images: list[bytes | Failure | None]
    metadata: list[Facts] = field(default_factory=list)

    def facts(self, place: int) -> Facts:
        """Return the metadata of the row at a place of this piece."""
        return self.metadata[place] if self.metadata else ()

    def only(self, wanted: Collection[int] | None) -> Piece:
        """Return the wanted rows of the piece; None means all."""
        if wanted is None:
            return self
        kept = [i for i, row in enumerate(self.rows) if row in wanted]
        return Piece(
            [self.rows[i] for i in kept],
            [self.ids[i] for i in kept],
            [self.uris[i] for i in kept],
            [self.images[i] for i in kept],
            [self.metadata[i] for i in kept] if self.metadata else [],
        )


@dataclass(frozen=True)
class Reading:
    """Settings for reading shards.

    Their source, and how many bytes all images that are held may have. An image that takes longer than `hang_s` seconds
    to decode has hung its decoder, where that is looked for.
    """

    source: PoolSource
    budget: int = 64 << 20
    hang_s: float = 60.0


def failure_of(error: BaseException) -> Failure:
    """Return why something could not be read.

    The words are the same every time.
    """
    if isinstance(error, ObjectChanged):
        return Failure("changed since the pool was listed")
    if isinstance(error, ArtefactMissing):
        return Failure("vanished since the pool was listed")
    if isinstance(error, StoreUnavailable):
        return Failure("storage did not answer", max(error.attempts, 1))
    if isinstance(error, PipelineError):
        return Failure(f"refused: {shown(error)}")
    return Failure(f"broken: {shown(error)}")


def shown(error: BaseException) -> str:
    """Return an error's text as one bounded line."""
    return " ".join(str(error).split())[:MAX_SHOWN]


def too_big(size: int, reading: Reading) -> Failure | None:
    """Refuse an image larger than `max_bytes` by its encoded size.

    An object of such a size is no image.
    """
    most = reading.source.max_bytes
    if size > most:
        return Failure(f"too big: {size} bytes, more than scoring.max_bytes ({most})")
    return None


def open_listed(item: Listed, source: PoolSource, *, sparse: bool = False) -> pa.NativeFile:
    """Open an object of the pool for random access.

    It is opened in the version that was listed; `sparse` if little of it is wanted.
    """
    store, key = source.roots.locate(item.uri)
    return store.open(key, etag=item.etag, size=item.size, sparse=sparse)


def named(names: Sequence[str | None], place: str, start: int = 0, separator: str = ":") -> list[str]:
    """Return names of rows, with places for rows without one.

    So every row can be accounted for.
    """
    return [name or f"{place}{separator}{start + i}" for i, name in enumerate(names)]


def places(place: str, start: int, stop: int) -> list[str]:
    """Return ids for rows whose own can't be read: their places."""
    return [f"{place}:{row}" for row in range(start, stop)]
