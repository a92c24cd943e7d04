"""What a store is: objects below a URI, with whole-object atomic writes and two conditional ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import pyarrow.fs

from pipeline.errors import ArtefactMissing, StorageError, StoreUnavailable


@dataclass(frozen=True)
class Entry:
    """One listed object: its key below the store's URI, its size in bytes and its version tag."""

    key: str
    size: int
    etag: str


class Store(Protocol):
    """Objects by key. Writes are atomic: an object is there whole, or not at all.

    Keys are pieces joined by slashes. Objects below a piece that starts with a dot are nobody's data (a writer's
    leftovers, a tool's notes) and are never listed.
    """

    @property
    def uri(self) -> str:
        """Where the objects are."""

    def get(self, key: str) -> bytes:
        """The object's bytes; `ArtefactMissing` without it."""

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        """The object's bytes and the tag that `put_if_match` wants."""

    def put(self, key: str, data: bytes) -> None:
        """Write, replacing what is there."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write unless the object exists; true when this call wrote it."""

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        """Replace the object if its tag is still `etag`; true when this call wrote it."""

    def exists(self, key: str) -> bool:
        """Whether the object is there."""

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """All objects whose key starts with `prefix`, in the order of their keys' bytes."""

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens without it."""

    def open(self, key: str) -> pa.NativeFile:
        """The object for random access, so that Parquet reads only what it needs."""

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


def unavailable(uri: str, cause: BaseException) -> StoreUnavailable:
    """The error for storage that does not answer."""
    error = StoreUnavailable(f"{uri}: storage does not answer: {cause}")
    error.uri = uri
    return error


@contextlib.contextmanager
def reading(uri: str) -> Iterator[None]:
    """Turn what Arrow says of storage, while it opens or reads an object, into our errors; the rest passes."""
    try:
        yield
    except FileNotFoundError:
        raise missing(uri) from None
    except OSError as error:
        text = str(error)
        if "AWS Error ACCESS_DENIED" in text or "HTTP status 403" in text:
            raise StorageError(f"{uri}: S3 says AccessDenied") from None
        if "AWS Error" in text:
            raise unavailable(uri, error) from error
        raise
