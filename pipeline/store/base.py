"""What a store is: objects below a URI, with whole-object atomic writes and two conditional ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from pipeline.errors import ArtefactMissing, ObjectChanged, StorageError, StoreUnavailable, mask


@dataclass(frozen=True)
class Entry:
    """One listed object: its key below the store's URI, its size in bytes and its version tag."""

    key: str
    size: int
    etag: str


class Store(Protocol):
    """Objects by key. Writes are atomic: an object is there whole, or not at all.

    Keys are pieces joined by slashes; the key "" is the object that the URI itself names. What is written has a key
    that disk and S3 hold alike; what others wrote is read as it stands. Objects below a piece that starts with a dot
    are nobody's data (a writer's leftovers, a tool's notes) and are never listed.

    Everything that reads may raise `StorageError` (may not be read) and `StoreUnavailable` (does not answer).
    """

    @property
    def uri(self) -> str:
        """Where the objects are."""

    def get(self, key: str, *, etag: str | None = None) -> bytes:
        """The object's bytes; with `etag`, of the version that `list` showed.

        Raises:
            ArtefactMissing: it is not there.
            ObjectChanged: another version is there.
        """

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        """The object's bytes and the tag that `put_if_match` wants; `ArtefactMissing` without it."""

    def put(self, key: str, data: bytes) -> None:
        """Write, replacing what is there."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write unless the object exists; true when this call wrote it."""

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        """Replace the object if its tag is still `etag`; true when this call wrote it."""

    def exists(self, key: str) -> bool:
        """Whether the object is there."""

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """List the objects whose key starts with `prefix`, page by page.

        They come in the order of their keys' bytes. Every key can be encoded as UTF-8: a name on disk that can't be
        shows its bytes as `\\xff`, and no object is found under that text.
        """

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens without it."""

    def open(
        self, key: str, *, etag: str | None = None, size: int | None = None, sparse: bool = False
    ) -> pa.NativeFile:
        """The object for random access, so that Parquet and tar files are read in the pieces that are needed.

        `sparse` says that these will be few and small: little is read ahead.
        All reads see one version: that of `etag`, or else the one that was there at first. With both `etag` and
        `size` as `list` gave them, opening asks the storage nothing, and the first read raises what `get` would.
        """

    def url(self, key: str) -> str:
        """The full URI of a key."""


def checked(key: str) -> str:
    """A key that disk and S3 understand alike, and that can't leave its store."""
    if "\0" in key or any(piece in ("", ".", "..") for piece in key.split("/")):
        raise StorageError(f"{key!r} is not a key: its pieces may not be empty, '.' or '..'")
    return key


def missing(uri: str) -> ArtefactMissing:
    """The error for an object that is not there."""
    error = ArtefactMissing(f"{uri}: not there")
    error.uri = uri
    return error


def changed(uri: str) -> ObjectChanged:
    """The error for an object that is another version than was asked for."""
    error = ObjectChanged(f"{uri}: has changed since it was listed")
    error.uri = uri
    return error


def unavailable(uri: str, cause: BaseException) -> StoreUnavailable:
    """The error for storage that does not answer."""
    error = StoreUnavailable(f"{uri}: storage does not answer: {mask(str(cause))}")
    error.uri = uri
    return error
