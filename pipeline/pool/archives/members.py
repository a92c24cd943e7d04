"""Members of a tar, by its headers."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa

from pipeline.errors import PipelineError
from pipeline.pool.inventory.found import Left
from pipeline.pool.inventory.names import by_ending, hidden
from pipeline.pool.pieces import IMAGE_ENDS, Failure, failure_of

# What a member says of itself is read whole by tarfile, which searches it by a pattern that is quadratic in a run of
# digits (CVE-2024-6232): 128 digits in each of 1,024 runs take a tenth of a second.
_MOST_HEADER: Final = 128 << 10  # bytes
_MANY_DIGITS: Final = re.compile(rb"[0-9]{129}")
_ZEROS: Final = 64 << 10  # bytes that are looked through at a time
_BLOCK: Final = tarfile.BLOCKSIZE
_OTHERS: Final = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"PK\x03\x04", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"PAR1", "Parquet"),
)


@dataclass(frozen=True)
class Member:
    """An image in a tar: its name, and where its bytes are."""

    name: str
    offset: int
    size: int
    problem: Failure | None = None


@dataclass(frozen=True)
class Break:
    """The byte from which on a tar can't be read, and why."""

    offset: int
    why: Failure


class _Bounded:
    """A file that refuses large reads.

    Only a forged header would ask for them.
    """

    def __init__(self, file: pa.NativeFile, size: int) -> None:
        self._file = file
        self._size = size

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MOST_HEADER:
            raise tarfile.HeaderError(f"a header of {size} bytes")
        if self.tell() >= self._size:
            return b""
        data = bytes(self._file.read(size))
        if size > _BLOCK and _MANY_DIGITS.search(data):
            raise tarfile.HeaderError("a header with a number of more than 128 digits")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())


def members(file: pa.NativeFile, size: int) -> Iterator[Member | Left | Break]:
    """Yield the images of a tar, and its other members by kind.

    They come in stored order. Tars that are joined are read one after another. Hard links come last, as images with the
    bytes that they link to. At most one `Break` comes: of what follows it nothing is known.
    """
    found = _Images(size)
    start: int | None = 0
    try:
        while start is not None:
            end = yield from _archive(_Bounded(file, size), start, found)
            start = _next_archive(file, end, size)
    except _Broken as error:
        yield Break(error.offset, _told(file, error, size))
    yield from found.linked()


class _Broken(Exception):
    """Damage at an offset, for a reason."""

    def __init__(self, offset: int, why: Failure) -> None:
        super().__init__(why.reason)
        self.offset = offset
        self.why = why


def _archive(bounded: Any, start: int, found: _Images) -> Generator[Member | Left, None, int]:
    """Yield what one archive holds, from `start` on; return where it ends.

    Raises:
        _Broken: it is damaged.
    """
    place = start
    bounded.seek(start)
    try:
        with tarfile.open(fileobj=bounded, mode="r:", errorlevel=2) as tar:
            for info in tar:
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile keeps them all
                if info.size < 0 or tar.offset <= info.offset:  # it would loop for ever
                    raise tarfile.HeaderError(f"a member of {info.size} bytes")
                place = info.offset
                each = found.see(info)
                if each is not None:
                    yield each
                if found.cut(info):
                    raise _Broken(info.offset, Failure("broken: the tar ends within a member"))
                place = tar.offset
            bounded.seek(tar.offset)  # tarfile takes a damaged header for the end
            if bounded.read(_BLOCK) != tarfile.NUL * _BLOCK:
                raise tarfile.HeaderError(f"no header and no end at byte {tar.offset} of {found.size}")
            return tar.offset
    except (PipelineError, OSError, _Broken):
        raise
    except Exception as error:  # noqa: BLE001 - damaged headers make tarfile raise anything
        raise _Broken(place, failure_of(error)) from None


def _told(file: pa.NativeFile, error: _Broken, size: int) -> Failure:
    """Return why a tar is broken: another format's first bytes say more."""
    if error.offset == 0 and size:
        file.seek(0)
        head = bytes(file.read(min(size, 8)))
        for magic, name in _OTHERS:
            if head.startswith(magic):
                return Failure(f"broken: {name} data, not a plain tar")
    return error.why


def _next_archive(file: pa.NativeFile, end: int, size: int) -> int | None:
    """Return where a joined tar begins behind an end's zeros."""
    while end < size:
        file.seek(end)
        data = bytes(file.read(min(_ZEROS, size - end)))
        if not data:
            return None
        if data.count(0) < len(data):
            before = len(data) - len(data.lstrip(b"\0"))
            return end + before // _BLOCK * _BLOCK
        end += len(data)
    return None


class _Images:
    """The images of a tar, as its headers come.

    The places of all regular members are held, because a hard link may name any of them.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._places: dict[str, Member] = {}
        self._links: list[tuple[str, str]] = []

    def see(self, info: tarfile.TarInfo) -> Member | Left | None:
        """Return the image that a header stands for, or its kind.

        None for a folder, and for a hard link that comes later.
        """
        name = _text(info.name)
        if info.isreg():
            member = Member(name, info.offset_data, info.size, self._problem(info))
            self._places[_plain(name)] = member
        if info.isdir():
            return None
        if kind := hidden(name):
            return Left(kind)
        if not name.lower().endswith(IMAGE_ENDS):
            return Left(by_ending("members", name))
        if info.isreg():
            return member
        if info.islnk():
            self._links.append((name, _plain(_text(info.linkname))))
            return None
        return Left("symbolic links" if info.issym() else "devices and pipes")

    def _problem(self, info: tarfile.TarInfo) -> Failure | None:
        if info.issparse():
            return Failure("unsupported: a sparse member")
        return Failure("broken: the tar ends within it") if self.cut(info) else None

    def cut(self, info: tarfile.TarInfo) -> bool:
        """Return whether the tar ends within a member."""
        return info.isreg() and not info.issparse() and info.offset_data + info.size > self.size

    def linked(self) -> Iterator[Member]:
        """Yield the images that hard links stand for."""
        for name, target in self._links:
            place = self._places.get(target)
            if place is None:
                why = Failure(f"broken: a hard link to {target[:100]!r}, which the tar does not hold")
                place = Member(name, 0, 0, why)
            self._places.setdefault(_plain(name), place)
            yield replace(place, name=name)


def _plain(name: str) -> str:
    return name.removeprefix("./")


def _text(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
