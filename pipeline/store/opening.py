"""The store of a URI, on local disk or S3.

`open_store(uri, storage)` returns a `Store`. Stores travel to workers as a URI and the `storage` section: workers find
credentials in their own environment variables, so that none enters a pickle.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from pipeline.config.sections import Storage
from pipeline.errors import StorageError
from pipeline.store.base import Store
from pipeline.store.local import LocalStore
from pipeline.store.s3 import S3Store

__all__ = ["LocalStore", "S3Store", "Store", "open_store"]


def open_store(uri: str, storage: Storage) -> Store:
    """Open the store at a path, `file://` or `s3://bucket/prefix`.

    Raises:
        StorageError: another scheme, or no bucket.
    """
    scheme, separator, rest = uri.partition("://")
    if "\0" in uri:
        raise StorageError(f"{uri!r}: a null byte is part of no place")
    if scheme == "s3" and separator:
        if not rest.partition("/")[0]:
            raise StorageError(f"{uri}: write it as s3://bucket/prefix")
        return S3Store(uri.rstrip("/"), storage.of(uri))
    if scheme == "file" and separator:
        return LocalStore(str(Path(unquote(rest.removeprefix("localhost"))).absolute()))
    if separator and scheme.isidentifier():
        raise StorageError(f"{uri}: {scheme}:// is not known here; use a path or s3://bucket/prefix")
    return LocalStore(str(Path(uri).absolute()))
