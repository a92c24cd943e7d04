"""Tars of images, as WebDataset has them.

A shard is a tar, and the id is the member's name, after the tar's key if `pool.tar_ids` is `path`. Members that are no
images are ignored.
"""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from pipeline.errors import ArtefactMissing, ObjectChanged, PipelineError
from pipeline.pool.pieces import (
    IMAGE_ENDS,
    Failure,
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

_MOST_HEADER = 1 << 20  # bytes; what a member says of itself is read whole by tarfile
_MOST_ROWS = 256
_FEW = 8  # if less than one row of so many is wanted, going from header to header is faster


@dataclass(frozen=True)
class _Member:
    name: str
    offset: int
    size: int
    problem: Failure | None = None


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


def survey(
    objects: Sequence[Listed], source: PoolSource
) -> Iterator[tuple[tuple[Listed, ...], pa.StringArray]]:
    """Make a shard of each tar that has images, by its headers.

    What lies between the headers of large members is not read.
    """
    for item in objects:
        try:
            with open_listed(item, source, sparse=True) as file:
                ids = [_id(member, item, source) for member in _members(file, item.size)]
        except (ArtefactMissing, ObjectChanged):  # a pool may be written to while it is listed
            ids = places(item.uri, 0, 1)
        if ids:
            yield (replace(item, rows=len(ids)),), pa.array(ids, pa.string())


def _id(member: _Member, item: Listed, source: PoolSource) -> str:
    if source.pool.tar_ids == "member" and member.name:
        return member.name
    key = key_below(source.store, item.uri)
    return f"{key}/{member.name}".strip("/") or item.uri


def _members(file: pa.NativeFile, size: int) -> Iterator[_Member]:
    """Yield the images of a tar in stored order.

    Where the tar breaks off, one member without a name has the reason.
    """
    bounded: Any = _Bounded(file, size)
    try:
        with tarfile.open(fileobj=bounded, mode="r:", errorlevel=2) as tar:
            for info in tar:
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile keeps them all
                if info.size < 0 or tar.offset <= info.offset:  # it would loop for ever
                    raise tarfile.HeaderError(f"a member of {info.size} bytes")
                if not info.isreg() or not info.name.lower().endswith(IMAGE_ENDS):
                    continue
                if info.issparse():
                    yield _Member(_text(info.name), 0, 0, Failure("unsupported: a sparse member"))
                    continue
                cut = (
                    Failure("broken: the tar ends within it") if info.offset_data + info.size > size else None
                )
                yield _Member(_text(info.name), info.offset_data, info.size, cut)
                if cut:
                    return
            bounded.seek(tar.offset)  # tarfile takes a damaged header for the end
            if bounded.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise tarfile.HeaderError(f"no header and no end at byte {tar.offset} of {size}")
    except (PipelineError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - damaged headers make tarfile raise anything
        yield _Member("", 0, 0, failure_of(error))


def _text(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def ids_of(shard: Shard, source: PoolSource) -> list[str]:
    """Return the ids of a tar's images.

    Where they can't be read, the rows' places.
    """
    try:
        found = [ids.to_pylist() for _, ids in survey(shard.listed, source)]
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
