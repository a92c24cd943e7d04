"""Tars of images, as WebDataset has them.

A shard is a tar, and the id is the member's name, after the tar's key if `pool.tar_ids` is `path`. Members that are no
images are ignored.
"""

from __future__ import annotations

import itertools
import tarfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from pipeline.errors import ArtefactMissing, ObjectChanged, PipelineError
from pipeline.pool.pieces import (
    IMAGE_ENDS,
    Failure,
    Found,
    Piece,
    Reading,
    failure_of,
    key_below,
    open_listed,
    places,
    too_big,
)
from pipeline.pool.source import PoolSource
from pipeline.types import Listed, Shard

# Bytes; what a member says of itself is read whole by tarfile, which takes a time that grows with its square.
_MOST_HEADER = 1 << 16
_MOST_ROWS = 256
_ZEROS = 1 << 16  # bytes read at a time behind the end
_LONGEST_END = 12  # characters of an ending that is told
_FEW = 8  # if less than one row of so many is wanted, going from header to header is faster


@dataclass(frozen=True)
class _Member:
    name: str
    offset: int
    size: int
    problem: Failure | None = None
    ends: bool = False  # nothing behind it can be read


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
        return bytes(self._file.read(size))

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())


def survey(objects: Sequence[Listed], source: PoolSource) -> Iterator[Found]:
    """Make a shard of each tar that has images, by its headers.

    What lies between the headers of large members is not read.
    """
    for item in objects:
        skipped: Counter[str] = Counter()
        broken = None
        try:
            with open_listed(item, source, sparse=True) as file:
                members = list(_members(file, item.size, skipped))
            ids = [_id(member, item, source) for member in members]
            # The reason of the last one, where the tar breaks off: nobody knows what else it held.
            broken = (
                members[-1].problem.reason if members and members[-1].ends and members[-1].problem else None
            )
        except (ArtefactMissing, ObjectChanged):  # a pool may be written to while it is listed
            ids = places(item.uri, 0, 1)
        listed = (replace(item, rows=len(ids)),) if ids else ()
        yield Found(listed, pa.array(ids, pa.string()), broken, skipped)


def _id(member: _Member, item: Listed, source: PoolSource) -> str:
    if source.pool.tar_ids == "member" and member.name:
        return member.name
    key = key_below(source.store, item.uri)
    return f"{key}/{member.name}".strip("/") or item.uri


def _members(file: pa.NativeFile, size: int, skipped: Counter[str] | None = None) -> Iterator[_Member]:
    """Yield the images of a tar, in stored order.

    Those of tars that were joined to it follow. Where the tar breaks off, one last member has the reason. Members that
    are left out by rule are counted in `skipped` by kind.
    """
    bounded: Any = _Bounded(file, size)
    skipped = Counter() if skipped is None else skipped
    start: int | None = 0
    places: dict[str, tuple[int, int]] = {}  # offset and size of the images, for links to them
    try:
        while start is not None:
            bounded.seek(start)
            with tarfile.open(fileobj=bounded, mode="r:", errorlevel=2) as tar:
                for info in tar:
                    tar.members.clear()  # type: ignore[attr-defined]  # tarfile keeps them all
                    if info.size < 0 or tar.offset <= info.offset:  # it would loop for ever
                        raise tarfile.HeaderError(f"a member of {info.size} bytes")
                    if kind := _skipped(info):
                        skipped[kind] += 1
                        continue
                    member = _member(info, size, places)
                    yield member
                    if member.ends:
                        return
                bounded.seek(tar.offset)  # tarfile takes a damaged header for the end
                if bounded.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                    raise tarfile.HeaderError(f"no header and no end at byte {tar.offset} of {size}")
            start = _joined(bounded, tar.offset, size)
    except (PipelineError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - damaged headers make tarfile raise anything
        yield _Member("", 0, 0, failure_of(error), ends=True)


def _skipped(info: tarfile.TarInfo) -> str | None:
    """Return the kind of a member that is left out by rule."""
    name = info.name.lower()
    last = name.rpartition("/")[2]
    if info.isdir():
        return "folders in tars"
    if last.startswith(".") or "__macosx/" in name:
        return "hidden or system files in tars"
    if not name.endswith(IMAGE_ENDS):
        end = last.rpartition(".")[2] if "." in last else ""
        return (
            f".{end} files in tars" if end.isalnum() and len(end) <= _LONGEST_END else "other files in tars"
        )
    return None if info.isreg() or info.islnk() else "links and devices in tars"


def _member(info: tarfile.TarInfo, size: int, places: dict[str, tuple[int, int]]) -> _Member:
    name = _text(info.name)
    if info.issparse():
        return _Member(name, 0, 0, Failure("unsupported: a sparse member"))
    if info.islnk():  # another name of a file before it
        if info.linkname not in places:
            return _Member(name, 0, 0, Failure("broken: a link to a member that does not stand before it"))
        return _Member(name, *places[info.linkname])
    if info.offset_data + info.size > size:
        return _Member(
            name, info.offset_data, info.size, Failure("broken: the tar ends within it"), ends=True
        )
    places[info.name] = (info.offset_data, info.size)
    return _Member(name, info.offset_data, info.size)


def _joined(bounded: Any, end: int, size: int) -> int | None:
    """Return where another tar begins behind the zeros that end one."""
    place = end
    bounded.seek(place)
    while place < size and (block := bounded.read(_ZEROS)):
        rest = block.lstrip(b"\0")
        if rest:  # a header begins with a name
            return int(place + len(block) - len(rest))
        place += len(block)
    return None


def _text(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def ids_of(shard: Shard, source: PoolSource) -> list[str]:
    """Return the ids of a tar's images.

    Where they can't be read, the rows' places.
    """
    try:
        found = [seen.ids.to_pylist() for seen in survey(shard.listed, source)]
    except PipelineError:
        found = []
    return found[0] if found and len(found[0]) == shard.rows else places(shard.place, 0, shard.rows)


def pieces(shard: Shard, reading: Reading, wanted: Collection[int] | None = None) -> Iterator[Piece]:
    """Read the images of a tar, front to back.

    If few are wanted, from header to header up to the last of them.
    """
    (item,) = shard.listed
    stop = item.rows if wanted is None else min(item.rows, max(wanted, default=-1) + 1)
    sparse = wanted is not None and len(wanted) * _FEW < stop
    piece = Piece([], [], [], [])
    done = held = 0
    failure = Failure("changed since the pool was listed")
    try:
        with open_listed(item, reading.source, sparse=sparse) as file:
            for row, member in enumerate(itertools.islice(_members(file, item.size), stop)):
                if wanted is None or row in wanted:
                    piece.images.append(_body(file, member, reading))
                    piece.rows.append(row)
                    piece.ids.append(_id(member, item, reading.source))
                    piece.uris.append(item.uri)
                    held += member.size
                done = row + 1
                if held >= reading.budget or len(piece.rows) == _MOST_ROWS:
                    yield piece
                    piece, held = Piece([], [], [], []), 0
    except (PipelineError, OSError) as error:
        failure = failure_of(error)
    yield piece
    rest = list(range(done, stop))
    ids = places(item.uri, done, stop)
    yield Piece(rest, ids, [item.uri] * len(rest), [failure] * len(rest)).only(wanted)


def _body(file: pa.NativeFile, member: _Member, reading: Reading) -> bytes | Failure:
    refused = member.problem or too_big(member.size, reading)
    if refused:
        return refused
    file.seek(member.offset)
    return bytes(file.read(member.size))
