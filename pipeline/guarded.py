"""A store as the holder of a lease writes to it: whoever has lost the lease changes nothing any more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.storage import Store
from pipeline.store import Entry
from pipeline.workspace import Lease


@dataclass(frozen=True)
class Guarded:
    """Each write asks first whether the lease still holds, which costs no request, and raises `LeaseHeld` if not.

    A process that was stopped past its lease and goes on would else write what it had in hand, into another one's
    round. Pickled, it is the bare store: workers do what a driver asked for while it held the lease.
    """

    bare: Store
    lease: Lease

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self.bare,)

    @property
    def uri(self) -> str:
        """Where the objects are."""
        return self.bare.uri

    def get(self, key: str, *, etag: str | None = None) -> bytes:
        """See `Store`."""
        return self.bare.get(key, etag=etag)

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        """See `Store`."""
        return self.bare.get_tagged(key)

    def exists(self, key: str) -> bool:
        """See `Store`."""
        return self.bare.exists(key)

    def list(self, prefix: str = "", *, start_after: str | None = None) -> Iterator[Entry]:
        """See `Store`."""
        return self.bare.list(prefix, start_after=start_after)

    def open(self, key: str, **how: Any) -> pa.NativeFile:
        """See `Store`."""
        return self.bare.open(key, **how)

    def url(self, key: str) -> str:
        """See `Store`."""
        return self.bare.url(key)

    def put(self, key: str, data: bytes) -> None:
        """See `Store`."""
        self.lease.check()
        self.bare.put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See `Store`."""
        self.lease.check()
        return self.bare.put_if_absent(key, data)

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        """See `Store`."""
        self.lease.check()
        return self.bare.put_if_match(key, data, etag)

    def delete(self, key: str) -> None:
        """See `Store`."""
        self.lease.check()
        self.bare.delete(key)


def _itself(store: Store) -> Store:
    return store
