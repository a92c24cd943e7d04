"""Objects on a local disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import heapq
import os
import stat
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa

from pipeline.errors import ArtefactMissing, StorageError
from pipeline.store.base import Entry, changed, checked, missing, unavailable

RUN = 1 << 18  # names of a folder that are sorted in memory; of more, runs are sorted on disk


@dataclass(frozen=True)
class LocalStore:
    """A directory."""

    uri: str

    @property
    def root(self) -> Path:
        """The directory."""
        return Path(self.uri)

    def path(self, key: str) -> Path:
        """Return the path of a key."""
        return self.root / checked(key)

    def get(self, key: str, *, etag: str | None = None) -> bytes:
        with _on_disk(self.url(key)):
            path = self._object(key)
            if not stat.S_ISREG(
                path.stat().st_mode
            ):  # a pipe would keep us waiting, a device would never end
                raise FileNotFoundError
            with path.open("rb") as file:
                before = os.fstat(file.fileno())
                self._expect(key, before, etag=etag)  # before it is read: it may have grown beyond all bounds
                data = file.read(before.st_size + 1)
                self._expect(key, os.fstat(file.fileno()), etag=etag, size=len(data))
                return data

    def _object(self, key: str) -> Path:
        return self.path(key) if key else self.root

    def _expect(self, key: str, found: os.stat_result, *, etag: str | None, size: int | None = None) -> None:
        if etag not in (None, _tag(found)) or size not in (None, found.st_size):
            raise changed(self.url(key))

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        data = self.get(key)
        return data, hashlib.sha256(data).hexdigest()

    @contextlib.contextmanager
    def _staged(self, key: str, data: bytes) -> Iterator[tuple[Path, Path]]:
        """Write the bytes under a temporary name beside their target."""
        target = self.path(key)
        staged = target.parent / f".{uuid.uuid4().hex}.tmp"
        with _on_disk(self.url(key), writing=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with staged.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                yield staged, target
            finally:
                staged.unlink(missing_ok=True)

    def put(self, key: str, data: bytes) -> None:
        with self._staged(key, data) as (staged, target):
            staged.replace(target)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with self._staged(key, data) as (staged, target):
            try:
                os.link(staged, target)  # unlike rename, fails when the target exists
            except FileExistsError:
                return False
        return True

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        target = self.path(key)
        if not self.exists(key):
            return False
        with (
            _on_disk(self.url(key), writing=True),
            (target.parent / f".{target.name}.lock").open("w") as lock,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX)
            with contextlib.suppress(ArtefactMissing):
                if self.get_tagged(key)[1] == etag:
                    self.put(key, data)
                    return True
        return False

    def exists(self, key: str) -> bool:
        return self.path(key).is_file()

    def list(self, prefix: str = "") -> Iterator[Entry]:
        if ".." in prefix.split("/"):
            raise StorageError(f"{prefix!r} leads out of {self.uri}")
        with _on_disk(self.uri):
            if self.root.is_file():  # a URI may name one object
                if not prefix:
                    found = self.root.stat()
                    yield Entry("", found.st_size, _tag(found))
            elif self.root.is_dir():
                yield from self._below(self.root, "", prefix=prefix, parents=())

    def _below(
        self, folder: Path, above: str, *, prefix: str, parents: tuple[tuple[int, int], ...]
    ) -> Iterator[Entry]:
        """List a folder in the order of S3: `a-b`, `a/b`, `a0`.

        Holds `RUN` names in memory. Pipes, sockets and devices are no objects.
        """
        at = folder.stat()
        here = (at.st_dev, at.st_ino)
        if here in parents:
            raise StorageError(f"{folder}: a link that leads to a folder above itself")
        for shown, name in _in_order(folder):
            key = above + shown
            if shown.endswith("/"):
                if key.startswith(prefix) or prefix.startswith(key):
                    yield from self._below(folder / name, key, prefix=prefix, parents=(*parents, here))
            elif key.startswith(prefix):
                try:
                    found = (folder / name).stat()
                except FileNotFoundError:  # deleted since, or a link to nowhere
                    continue
                if stat.S_ISREG(found.st_mode):
                    yield Entry(key, found.st_size, _tag(found))

    def delete(self, key: str) -> None:
        with _on_disk(self.url(key), writing=True):
            self.path(key).unlink(missing_ok=True)

    def open(
        self,
        key: str,
        *,
        etag: str | None = None,
        size: int | None = None,
        sparse: bool = False,  # noqa: ARG002 - the disk reads pages anyway
    ) -> pa.NativeFile:
        path = self._object(key)
        with _on_disk(self.url(key)):
            if not path.is_file():
                raise FileNotFoundError
            mapped = pa.memory_map(str(path)) if path.stat().st_size else pa.BufferReader(b"")
            self._expect(key, path.stat(), etag=etag, size=size)
            return mapped

    def url(self, key: str) -> str:
        return f"{self.uri}/{key}" if key else self.uri


def _tag(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns:x}-{found.st_size:x}"


def _in_order(folder: Path) -> Iterator[tuple[str, str]]:
    """List a folder's (name as text, name) in order.

    Folders end in a slash. Many names are sorted on disk.
    """
    names: list[tuple[str, str]] = []
    with contextlib.ExitStack() as files, os.scandir(folder) as items:
        runs: list[Iterator[tuple[str, str]]] = []
        for item in items:
            if not item.name.startswith("."):
                names.append((_text(item.name) + "/" * _leads_on(item), item.name))
            if len(names) == RUN:
                file = files.enter_context(tempfile.TemporaryFile())
                file.writelines(
                    os.fsencode(name) + b"/" * shown.endswith("/") + b"\0" for shown, name in sorted(names)
                )
                runs.append(_run(file))
                names = []
        yield from heapq.merge(*runs, sorted(names))


def _run(file: IO[bytes]) -> Iterator[tuple[str, str]]:
    """Read a sorted run of names on disk, ended by zero bytes."""
    file.seek(0)
    rest = b""
    while chunk := file.read(1 << 13):
        *records, rest = (rest + chunk).split(b"\0")
        for record in records:
            name = os.fsdecode(record.removesuffix(b"/"))
            yield _text(name) + "/" * record.endswith(b"/"), name


def _leads_on(item: os.DirEntry[str]) -> bool:
    return Path(item.path).is_dir() if item.is_symlink() else item.is_dir()  # of a link to itself: no


def _text(name: str) -> str:
    """Return a name as text; bytes that are not UTF-8 become `\\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


# Errors that no retry mends: the user must choose another path or other permissions.
_USERS_OWN = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG
)  # fmt: skip


@contextlib.contextmanager
def _on_disk(uri: str, *, writing: bool = False) -> Iterator[None]:
    """Turn the disk's errors into ours.

    The user's mistakes are kept apart from the machine's faults.
    """
    try:
        yield
    except OSError as error:
        if not writing and isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
            raise missing(uri) from None
        if error.errno in _USERS_OWN:
            raise StorageError(f"{uri}: {error.strerror}") from None
        raise unavailable(uri, error) from error
