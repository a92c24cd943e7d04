"""Pieces of a shard: bounded runs of rows as they are read.

Each row comes with its bytes, or with the reason why it has none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ArtefactMissing, ObjectChanged, PipelineError, StoreUnavailable
from pipeline.pool.source import PoolSource
from pipeline.store.base import Store
from pipeline.types import Listed

IMAGE_ENDS: Final = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif",
    ".avif", ".jp2", ".j2k", ".j2c", ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".qoi", ".psd", ".sgi",
    ".dds", ".ico",
)  # fmt: skip
MAX_SHOWN: Final = 200  # characters of a message from outside


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

    Of each row: place in the shard, id, URI, and bytes or the reason why there are none.
    """

    rows: list[int]
    ids: list[str]
    uris: list[str]
    images: list[bytes | Failure | None]

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
        )


@dataclass(frozen=True)
class Found:
    """The finding of a survey in one or several objects.

    Attributes:
        listed: the objects as they are listed; none where nothing in them is an image.
        ids: of their rows.
        broken: why rows beyond these may be there that nobody can count.
        skipped: what was left out by rule: kind -> count.
    """

    listed: tuple[Listed, ...]
    ids: pa.StringArray
    broken: str | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)


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


def key_below(store: Store, uri: str) -> str:
    """Return the key of a listed URI in its store.

    The store is the one that listed it. Empty if the store is that one object.
    """
    root = store.url("")
    return uri[len(root) :].removeprefix("/") if uri.startswith(root) else uri


def open_listed(item: Listed, source: PoolSource, *, sparse: bool = False) -> pa.NativeFile:
    """Open an object of the pool for random access.

    It is opened in the version that was listed; `sparse` if little of it is wanted.
    """
    store = source.store
    return store.open(key_below(store, item.uri), etag=item.etag, size=item.size, sparse=sparse)


def named(ids: pa.Array | pa.ChunkedArray, place: str, start: int = 0) -> pa.StringArray:
    """Return ids as text, with places for rows without one.

    So every row can be accounted for.

    Raises:
        ArrowInvalid: an id is no UTF-8.
    """
    text = ids.cast(pa.string())
    text.validate(full=True)
    if text.null_count or pc.any(pc.equal(text, "")).as_py():
        names = [name or f"{place}:{start + i}" for i, name in enumerate(text.to_pylist())]
        return pa.array(names, pa.string())
    return text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text


def places(place: str, start: int, stop: int) -> list[str]:
    """Return ids for rows whose own can't be read: their places."""
    return [f"{place}:{row}" for row in range(start, stop)]
