"""Tars of images, as WebDataset has them.

A shard is a tar, and the id is the member's name, after the tar's key if `pool.tar_ids` is `path`. Members that are no
images are left out, and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import pyarrow as pa

from pipeline.errors import ArtefactMissing, ObjectChanged, PipelineError
from pipeline.pool.archives.members import Break, Member, members
from pipeline.pool.inventory.found import Group, Left, Lost
from pipeline.pool.inventory.names import folder_values
from pipeline.pool.parquet import MOVED
from pipeline.pool.pieces import Failure, Piece, Reading, failure_of, open_listed, places, too_big
from pipeline.pool.source import PoolSource
from pipeline.types import Listed, Shard

_MOST_ROWS = 256
_FEW = 8  # if less than one row of so many is wanted, going from header to header is faster


def survey(objects: Sequence[Listed], source: PoolSource) -> Iterator[Group | Lost | Left]:
    """Make a shard of each tar that has images, by its headers.

    What lies between the headers of large members is not read. A tar that breaks off is a loss beside the images that
    it holds.
    """
    for item in objects:
        before = _before(item, source)
        ids: list[str] = []
        broken: Break | None = None
        others: Counter[str] = Counter()
        try:
            with open_listed(item, source, sparse=True) as file:
                for each in members(file, item.size):
                    if isinstance(each, Member):
                        ids.append(_id(each, before, item))
                    elif isinstance(each, Break):
                        broken = each
                    else:
                        others[each.kind] += each.count
        except (ArtefactMissing, ObjectChanged):  # a pool may be written to while it is listed
            yield Left(MOVED)
            continue
        yield from (Left(kind, count) for kind, count in others.items())
        if ids:
            yield Group((replace(item, rows=len(ids)),), pa.array(ids, pa.string()))
        if broken:
            yield Lost(item.uri, broken.why.reason, item.size, len(ids))


def _before(item: Listed, source: PoolSource) -> str:
    """Return what stands before the names of members in ids."""
    return source.roots.name(item.uri) if source.pool.tar_ids == "path" else ""


def _id(member: Member, before: str, item: Listed) -> str:
    return f"{before}/{member.name}" if before else member.name or item.uri


def ids_of(shard: Shard, source: PoolSource) -> list[str]:
    """Return the ids of a tar's images.

    Where they can't be read, the rows' places.
    """
    try:
        found = [each.ids.to_pylist() for each in survey(shard.listed, source) if isinstance(each, Group)]
    except PipelineError:
        found = []
    return found[0] if found and len(found[0]) == shard.rows else places(shard.place, 0, shard.rows)


def pieces(shard: Shard, reading: Reading, wanted: Collection[int] | None = None) -> Iterator[Piece]:
    """Read the images of a tar, front to back.

    If few are wanted, from header to header up to the last of them.
    """
    (item,) = shard.listed
    source = reading.source
    stop = item.rows if wanted is None else min(item.rows, max(wanted, default=-1) + 1)
    sparse = wanted is not None and len(wanted) * _FEW < stop
    before, facts = _before(item, source), folder_values(item.uri, source.pool.metadata)
    piece = Piece([], [], [], [])
    done = held = 0
    failure = Failure("changed since the pool was listed")
    try:
        with open_listed(item, source, sparse=sparse) as file:
            for each in members(file, item.size) if stop else ():
                if isinstance(each, Break):
                    failure = each.why
                if not isinstance(each, Member):
                    continue
                if wanted is None or done in wanted:
                    piece.images.append(_body(file, each, reading))
                    piece.rows.append(done)
                    piece.ids.append(_id(each, before, item))
                    piece.uris.append(item.uri)
                    piece.metadata.append(facts)
                    held += each.size
                done += 1
                if held >= reading.budget or len(piece.rows) == _MOST_ROWS:
                    yield piece
                    piece, held = Piece([], [], [], []), 0
                if done == stop:
                    break
    except (PipelineError, OSError) as error:
        failure = failure_of(error)
    yield piece
    rest = list(range(done, stop))
    ids = places(item.uri, done, stop)
    yield Piece(rest, ids, [item.uri] * len(rest), [failure] * len(rest)).only(wanted)


def _body(file: pa.NativeFile, member: Member, reading: Reading) -> bytes | Failure:
    refused = member.problem or too_big(member.size, reading)
    if refused:
        return refused
    file.seek(member.offset)
    return bytes(file.read(member.size))
