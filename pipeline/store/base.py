"""The protocol of stores, and the errors that all of them raise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from pipeline.errors import ArtefactMissing, ObjectChanged, StorageError, StoreUnavailable, mask


@dataclass(frozen=True)
class Entry:
    """A listed object: key below the store's URI, bytes, version tag."""

    key: str
    size: int
    etag: str


class Store(Protocol):
    """Objects below a URI, by key, with atomic writes.

    An object is there as a whole or not at all.

    Keys are pieces joined by slashes; the key "" is the object that the URI itself names. What is written has a key
    that disk and S3 hold alike; what others wrote is read as it stands. Objects below a piece that starts with a dot
    are nobody's data (a writer's leftovers, a tool's notes) and are never listed.

    Everything that reads may raise `StorageError` (may not be read) and `StoreUnavailable` (does not answer).
    """

    @property
    def uri(self) -> str:
        """The place of the objects."""

    def get(self, key: str, *, etag: str | None = None) -> bytes:
        """Read the object; with `etag`, in the version that `list` showed.

        Raises:
            ArtefactMissing: it is not there.
            ObjectChanged: another version is there.
        """

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        """Read the object and the tag that `put_if_match` needs.

        Raises:
            ArtefactMissing: it is not there.
        """

    def put(self, key: str, data: bytes) -> None:
        """Write the object, replacing an earlier one."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write unless the object exists; true when this call wrote it."""

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        """Replace the object if its tag is still `etag`.

        Returns true when this call wrote it.
        """

    def exists(self, key: str) -> bool:
        """Return whether the object is there."""

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
        """Open the object for random access.

        Parquet and tar files are so read in the pieces that are needed.

        `sparse` says that these will be few and small: little is read ahead.
        All reads see one version: that of `etag`, or else the one that was there at first. With both `etag` and
        `size` as `list` gave them, opening asks the storage nothing, and the first read raises what `get` would.
        """

    def url(self, key: str) -> str:
        """Return the full URI of a key."""


def checked(key: str) -> str:
    """Return the key if disk and S3 understand it alike.

    Raises:
        StorageError: it does not stay inside its store.
    """
    if "\0" in key or any(piece in ("", ".", "..") for piece in key.split("/")):
        raise StorageError(f"{key!r} is not a key: its pieces may not be empty, '.' or '..'")
    return key


def missing(uri: str) -> ArtefactMissing:
    """Make the error for an object that is not there."""
    error = ArtefactMissing(f"{uri}: not there")
    error.uri = uri
    return error


def changed(uri: str) -> ObjectChanged:
    """Make the error for an object that has another version."""
    error = ObjectChanged(f"{uri}: has changed since it was listed")
    error.uri = uri
    return error


def unavailable(uri: str, cause: BaseException, hint: str = "") -> StoreUnavailable:
    """Make the error for storage that does not answer."""
    error = StoreUnavailable(f"{uri}: storage does not answer: {mask(str(cause))}{hint and f'; {hint}'}")
    error.uri = uri
    return error
