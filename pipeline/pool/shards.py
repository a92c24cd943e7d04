"""The pool in shards, whatever its form.

Lists which objects a pool has and which of them make a shard together, and reads the rows of a shard. There are three
forms, told apart by the ends of keys; a pool may mix them: Parquet (a shard is a row group), tars of images as
WebDataset has them (a shard is a tar), and image objects (a shard is a run of them in the order of their keys). Each
form is a module of its own with the same three functions: `survey`, `pieces` and `ids_of`. What is of no form, or left
out by a rule, is counted by kind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final, Literal

from pipeline.errors import PoolError, nearest
from pipeline.pool import objects, parquet, tars
from pipeline.pool.inventory.found import Surveyed
from pipeline.pool.inventory.globs import chosen
from pipeline.pool.inventory.names import by_ending, no_data
from pipeline.pool.pieces import IMAGE_ENDS, Piece, Reading
from pipeline.pool.source import PoolSource
from pipeline.store.base import Store
from pipeline.types import Listed, Shard

Form = Literal["parquet", "tar", "image", "other", "left"]  # of no known form, or left out by a rule

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

    A Parquet file, a tar, or the images of one shard. Of an object that is none of these, `kind` says what it is.
    """

    form: Form
    objects: tuple[Listed, ...]
    kind: str = ""

    @property
    def known(self) -> bool:
        """True if it may hold images."""
        return not self.kind


def units(source: PoolSource) -> Iterator[Unit]:
    """List the pool in the order of its keys.

    The listing is streamed, with one unit in memory.

    Objects of no known form, and those that a rule leaves out, come as units with a kind, so that they can be counted.

    Raises:
        StorageError: the URI may not be read.
    """
    images: list[Listed] = []
    for uri, entry in source.roots.entries():
        found = Listed(uri, None, 1, entry.size, entry.etag)
        form, kind = _form(entry.key, uri, source)
        if form == "image":
            images.append(found)
        # Files of another form end a run of images, so that the snapshot keeps the order of the keys.
        if images and (len(images) == source.pool.images_per_shard or form in ("parquet", "tar")):
            yield Unit("image", tuple(images))
            images = []
        if form != "image":
            yield Unit(form, (found,), kind)
    if images:
        yield Unit("image", tuple(images))


def _form(key: str, uri: str, source: PoolSource) -> tuple[Form, str]:
    """Return an object's form, and the kind of other things."""
    form = form_of(key or uri)
    # A pool URI that names a single object of no known form is read as Parquet, whatever its suffix.
    form = "parquet" if form == "other" and not key else form
    name = key or uri.rpartition("/")[2]
    if form == "other":
        return form, by_ending("objects", name)
    if folder := no_data(key):
        return "left", f"objects in {folder}"
    if not chosen(name, source.pool.include, source.pool.exclude):
        return "left", "objects that pool.include and pool.exclude leave out"
    return form, ""


def survey(unit: Unit, source: PoolSource) -> Surveyed:
    """Look into a unit's objects, without reading images.

    Returns the shards in it with the ids of their rows, what is left out, and what can't be read.

    Raises:
        PoolError: a Parquet file lacks a column, or holds other types in it.
        StoreUnavailable: storage does not answer.
    """
    return Surveyed.of(_FORMS[unit.form].survey(unit.objects, source) if unit.known else ())


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
    if len(source.pool.uris) > 1:
        for before, store in source.roots.stores:
            if next(store.list(), None) is None:
                raise PoolError(f"pool.uri: {before} {_not_there(store)}")
    others: list[str] = []
    beside: Listed | None = None
    for unit in units(source):
        if unit.form == "parquet":
            there = parquet.has_rows(unit.objects[0], source)
            beside = beside or (unit.objects[0] if there is None else None)
            if not there:
                continue
            return
        if unit.known:
            return
        if len(others) < _LOOKED_AT:
            others.append(unit.objects[0].uri)
    raise no_images(source, beside, others)


def no_images(source: PoolSource, beside: Listed | None, others: Sequence[str] = ()) -> PoolError:
    """Make the error for a pool without images.

    Args:
        source: the pool.
        beside: a Parquet file with rows, but without images.
        others: objects of no known form.
    """
    if beside is not None:
        return parquet.missing_images(beside, source)
    return PoolError(f"pool.uri: {source.pool.place} {_why_empty(source, others)}")


def _why_empty(source: PoolSource, others: Sequence[str]) -> str:
    """Say why a pool holds nothing, and what may have been meant."""
    if next(source.roots.entries(), None) is None:
        return _not_there(source.store)
    if not others:
        return "holds Parquet files without rows"
    if source.pool.include or source.pool.exclude:
        return "holds no .parquet, .tar or image that pool.include and pool.exclude leave in"
    name = others[0].rpartition("/")[2]
    return f"holds no .parquet, .tar or image, but {name!r} and others"


def _not_there(store: Store) -> str:
    """Say why a store holds nothing, and what may have been meant."""
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
