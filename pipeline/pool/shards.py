"""The pool in shards, whatever its form.

Lists which objects a pool has and which of them make a shard together, and reads the rows of a shard. There are three
forms, told apart by the ends of keys; a pool may mix them: Parquet (a shard is a row group), tars of images as
WebDataset has them (a shard is a tar), and image objects (a shard is a run of them in the order of their keys). Each
form is a module of its own with the same three functions: `survey`, `pieces` and `ids_of`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.sections import Pool
from pipeline.errors import NoImageColumn, PoolError, nearest
from pipeline.pool import objects, parquet, tars
from pipeline.pool.pieces import IMAGE_ENDS, Piece, Reading
from pipeline.pool.source import PoolSource
from pipeline.store.base import Entry
from pipeline.types import Listed, Shard

Form = Literal["parquet", "tar", "image", "other", "system", "excluded"]

# What other programs leave beside data, as the name of an object or of a folder above it.
_SYSTEM: Final = re.compile(
    r"(^|/)(__MACOSX|_delta_log|_temporary|_spark_metadata|_SUCCESS|_metadata|_common_metadata|_committed_[^/]*"
    r"|_started_[^/]*|Thumbs\.db|desktop\.ini)(/|$)"
)

_LOOKED_AT: Final = 100  # objects that are named when nothing else is there
_FORMS: Final = {"parquet": parquet, "tar": tars, "image": objects}


def form_of(key: str) -> Form:
    """Return the form of an object by the end of its key."""
    end = key.lower()
    if end.endswith(".parquet"):
        return "parquet"
    if end.endswith(".tar"):
        return "tar"
    return "image" if end.endswith(IMAGE_ENDS) else "other"


@dataclass(frozen=True)
class Unit:
    """Objects that are surveyed together.

    A Parquet file, a tar, or the images of one shard.
    """

    form: Form
    objects: tuple[Listed, ...]


def units(source: PoolSource) -> Iterator[Unit]:
    """List the pool in the order of its keys.

    The listing is streamed, with one unit in memory.

    Objects of no known form come as units of form "other", so that they can be counted.

    Raises:
        StorageError: the URI may not be read.
    """
    store = source.store
    images: list[Listed] = []
    for entry in store.list():
        found = Listed(store.url(entry.key), None, 1, entry.size, entry.etag)
        form = _form(entry, source.pool)
        if form == "image":
            images.append(found)
        # Files of another form end a run of images, so that the snapshot keeps the order of the keys.
        if images and (len(images) == source.pool.images_per_shard or form in ("parquet", "tar")):
            yield Unit("image", tuple(images))
            images = []
        if form != "image":
            yield Unit(form, (found,))
    if images:
        yield Unit("image", tuple(images))


def _form(entry: Entry, pool: Pool) -> Form:
    form = form_of(entry.key or pool.uri)
    if _SYSTEM.search(entry.key):
        return "system"
    if entry.key and not pool.takes(entry.key):
        return "excluded"
    # A pool URI that names a single object of no known form is read as Parquet, whatever its suffix.
    return "parquet" if form == "other" and not entry.key else form


@dataclass(frozen=True)
class Group:
    """Objects that become a shard, and the ids of their rows."""

    listed: tuple[Listed, ...]
    ids: pa.StringArray
    broken: str | None = None  # why more rows may be there, which nobody can count

    @property
    def digest(self) -> str:
        """The SHA-256 of the ids, whatever their order."""
        return digest_of(self.ids)


def digest_of(ids: pa.StringArray) -> str:
    """Return the SHA-256 of ids, whatever their order.

    Each id counts as often as it appears.
    """
    in_order = ids.take(pc.array_sort_indices(ids)).to_pylist()
    return hashlib.sha256("\0".join(in_order).encode()).hexdigest()


@dataclass(frozen=True)
class Survey:
    """The shards of a unit, and what was left out by kind."""

    groups: list[Group]
    skipped: Counter[str]


def survey(unit: Unit, source: PoolSource) -> Survey:
    """Look into a unit's objects, without reading images.

    An object that can't be read because its bytes are broken is one row, so that it is accounted for, and says why.

    Raises:
        PoolError: a Parquet file lacks a column, or holds other types in it.
        StoreUnavailable: storage does not answer.
    """
    found = Survey([], Counter())
    for seen in _FORMS[unit.form].survey(unit.objects, source) if unit.form in _FORMS else ():
        found.skipped.update(seen.skipped)
        if seen.listed:
            found.groups.append(Group(seen.listed, seen.ids, seen.broken))
    return found


def pieces(shard: Shard, reading: Reading, wanted: Collection[int] | None = None) -> Iterator[Piece]:
    """Read the rows of a shard in order, in bounded pieces.

    All rows, or the wanted ones, a bounded number of bytes at a time. Each row comes once, an unreadable one with its
    failure. Nothing is raised for faults of the data or of storage.
    """
    found: Iterator[Piece] = _form_of(shard).pieces(shard, reading, wanted)
    return found


def check_pool(source: PoolSource) -> None:
    """Refuse a pool without rows, without listing it all.

    Raises:
        PoolError: nothing there, or a first Parquet file that lacks a column.
        StorageError: the URI may not be read.
    """
    others: list[str] = []
    lacking: PoolError | None = None
    for unit in units(source):
        if unit.form == "parquet":
            try:
                if lacking is None and parquet.has_rows(unit.objects[0], source):
                    return
            except NoImageColumn as error:  # a table beside images, if there are any
                lacking = error
        elif unit.form in _FORMS:
            return
        elif len(others) < _LOOKED_AT:
            others.append(unit.objects[0].uri)
    if lacking is not None:
        raise lacking
    raise PoolError(f"pool.uri: {source.pool.uri} {_why_empty(source, others)}")


def _why_empty(source: PoolSource, others: Sequence[str]) -> str:
    """Say why a pool holds nothing, and what may have been meant."""
    store = source.store
    if next(store.list(), None) is not None:
        if not others:
            return "holds Parquet files without rows"
        name = others[0].rpartition("/")[2]
        return f"holds no .parquet, .tar or image, but {name!r} and others"
    local = Path(store.uri)
    if "://" in store.uri or local.exists():
        return "is empty" if local.exists() else "does not exist or is empty"
    siblings = [path.name for path in local.parent.iterdir()] if local.parent.is_dir() else []
    return "does not exist" + (f"; {nearest(local.name, siblings)}" if siblings else "")


def ids_of(shard: Shard, source: PoolSource) -> list[str]:
    """Return the ids of a shard's rows; images are not read.

    Rows whose ids can't be read have their places instead.
    """
    found: list[str] = _form_of(shard).ids_of(shard, source)
    return found


def _form_of(shard: Shard) -> ModuleType:
    form = form_of(shard.listed[0].uri)
    return _FORMS["parquet" if form == "other" else form]
