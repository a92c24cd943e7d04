"""Labeled image sets by name, from Parquet files or torchvision's loaders.

`open_set` reads ids and classes but no pixels; `ChosenSet.pixels` then decodes the chosen images piece by piece.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.config.sections import Storage
from pipeline.encoding import canonical
from pipeline.errors import ConfigError, PoolError, nearest
from pipeline.images.bad import BadImage
from pipeline.images.decode import Transform, decode
from pipeline.store.opening import Store, open_store
from pipeline.studies.image_sets.loaders import ALWAYS, open_torchvision
from pipeline.studies.sections import Data, ImageSet

PIECE = 1024  # images decoded at a time
MAX_PIXELS = 50_000_000  # of an image
_SAMPLE = 20_240_901  # seed of `count`: the sample of a set is the same in every study


class Encoded(Protocol):
    """Source of encoded images by their number in reading order."""

    def read(self, rows: NDArray[np.int64]) -> Iterator[bytes]:
        """Yield the files of `rows`, which ascend."""


@dataclass(frozen=True)
class ChosenSet:
    """Images chosen by an `ImageSet`, in reading order.

    `ids` and `classes` hold the id and the class name of each.
    """

    name: str
    ids: tuple[str, ...]
    classes: tuple[str, ...]
    order: tuple[str, ...]  # the class names that occur, in the set's own order
    rows: NDArray[np.int64]
    source: Encoded

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def digest(self) -> str:
        """SHA-256 of ids and classes, independent of the images' place."""
        return hashlib.sha256(canonical([self.ids, self.classes, self.order])).hexdigest()

    def labels(self, taxonomy: Sequence[str]) -> NDArray[np.int64]:
        """Return the classes as numbers, -1 for one outside `taxonomy`."""
        numbers = {name: i for i, name in enumerate(taxonomy)}
        return np.asarray([numbers.get(name, -1) for name in self.classes], np.int64)

    def select(self, keep: NDArray[np.bool_]) -> ChosenSet:
        """Return the images where `keep` is true."""
        where = np.flatnonzero(keep)
        ids, classes = tuple(self.ids[i] for i in where), tuple(self.classes[i] for i in where)
        present = set(classes)
        order = tuple(name for name in self.order if name in present)
        return ChosenSet(self.name, ids, classes, order, self.rows[where], self.source)

    def pixels(self, transform: Transform) -> Iterator[NDArray[np.uint8]]:
        """Decode all images in order, piece by piece.

        Yields (k, 3, size, size) uint8, k at most `PIECE`.

        Raises:
            PoolError: an image cannot be decoded; sets that are compared must be complete.
        """
        piece: list[NDArray[np.uint8]] = []
        for name, data in zip(self.ids, self.source.read(self.rows), strict=True):
            try:
                piece.append(decode(data, transform))
            except BadImage as error:
                raise PoolError(f"{self.name}: image {name!r} cannot be used: {error}") from None
            if len(piece) == PIECE:
                yield np.stack(piece)
                piece = []
        if piece:
            yield np.stack(piece)

    def decoded(self, transform: Transform) -> NDArray[np.uint8]:
        """Decode all images at once, (n, 3, size, size) uint8."""
        whole = np.empty((len(self), 3, transform.size, transform.size), np.uint8)
        done = 0
        for piece in self.pixels(transform):
            whole[done : done + len(piece)] = piece
            done += len(piece)
        return whole


def open_set(wanted: ImageSet, data: Data, storage: Storage) -> ChosenSet:
    """Find a set's images and their classes.

    Raises:
        ConfigError: an unknown set or class; more images wanted than there are.
        PoolError, StorageError: nothing there, a column missing, ids that occur twice.
    """
    source: Encoded
    if wanted.uri or (data.uri and wanted.name not in ALWAYS):
        ids, classes, order, source = _open_parquet(wanted, data, storage)
    else:
        found = open_torchvision(wanted.name, wanted.split, data.root, download=data.download)
        ids, classes, order, source = found.ids, found.classes, found.order, found
    if len(set(ids)) != len(ids):
        raise PoolError(f"{wanted.name}: ids stand there twice")
    whole = ChosenSet(
        wanted.name, tuple(ids), tuple(classes), tuple(order), np.arange(len(ids), dtype=np.int64), source
    )
    chosen = whole.select(_of_classes(whole, wanted))
    if not len(chosen):
        raise PoolError(f"{wanted.name}: no image is left in split {wanted.split!r}")
    if wanted.leave is not None:
        chosen = chosen.select(~_sample(chosen, wanted.leave))
    return chosen if wanted.count is None else chosen.select(_sample(chosen, wanted.count))


def _sample(images: ChosenSet, size: int) -> NDArray[np.bool_]:
    if size > len(images):
        raise ConfigError(f"{images.name}: a sample of {size} is wanted, but there are {len(images)} images")
    keep = np.zeros(len(images), np.bool_)
    keep[np.random.default_rng(_SAMPLE).choice(len(images), size, replace=False)] = True
    return keep


def _of_classes(found: ChosenSet, wanted: ImageSet) -> NDArray[np.bool_]:
    """Tell which images are of the wanted classes, (n,) bool."""
    for pattern in (*wanted.only, *wanted.without):
        if not any(fnmatchcase(name, pattern) for name in found.order):
            raise ConfigError(
                f"{wanted.name}: no class is called {pattern!r}; {nearest(pattern, found.order)}"
            )
    good = {
        name
        for name in found.order
        if (not wanted.only or any(fnmatchcase(name, pattern) for pattern in wanted.only))
        and not any(fnmatchcase(name, pattern) for pattern in wanted.without)
    }
    return np.asarray([name in good for name in found.classes], np.bool_)


# ----------------------------------------------------------------------------------------------------- Parquet


@dataclass(frozen=True)
class _Parquet:
    """Source of images in row groups, numbered one after another.

    It pickles as URIs, so that it travels to workers.
    """

    store: Store
    groups: tuple[tuple[str, int, int], ...]  # key, row group, number of its first row

    def read(self, rows: NDArray[np.int64]) -> Iterator[bytes]:
        starts = [first for _, _, first in self.groups]
        group_of = np.searchsorted(starts, rows, side="right") - 1
        for number in np.unique(group_of):
            key, group, first = self.groups[number]
            with self.store.open(key) as file:
                column = pq.ParquetFile(file).read_row_group(group, ["image"], use_threads=False)["image"]
            for row in rows[group_of == number]:
                value = column[int(row) - first]
                yield _bytes_of(value)


def _bytes_of(value: pa.Scalar) -> bytes:
    found: Any = value.as_py()
    if isinstance(found, Mapping):  # Hugging Face's struct of bytes and path
        found = found.get("bytes")
    return found or b""


def _open_parquet(
    wanted: ImageSet, data: Data, storage: Storage
) -> tuple[list[str], list[str], list[str], _Parquet]:
    base = wanted.uri or f"{str(data.uri).rstrip('/')}/{wanted.name}"
    store = open_store(base, storage)
    keys = [entry.key for entry in store.list() if (entry.key or base).endswith(".parquet")]
    whole = [key for key in keys if not key or key.rpartition("/")[2].startswith(wanted.split)]
    if not whole:
        have = ", ".join(sorted({key.rpartition("/")[2] for key in keys})[:5]) or "nothing"
        raise PoolError(
            f"{wanted.name}: no Parquet file of {base} begins with {wanted.split!r} ({have} there)"
        )
    groups: list[tuple[str, int, int]] = []
    tables = []
    total = 0
    for key in whole:
        with store.open(key) as file:
            try:
                parquet = pq.ParquetFile(file)
                names = parquet.schema_arrow.names
                for column in ("id", "image", "label"):
                    if column not in names:
                        raise PoolError(
                            f"{store.url(key)} has no column {column!r}; {nearest(column, names)}"
                        )
                tables.append(
                    parquet.read(["id", "label", *(["label_name"] if "label_name" in names else [])])
                )
                sizes = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
            except (pa.ArrowException, OSError) as error:
                raise PoolError(
                    f"{store.url(key)} cannot be read: {' '.join(str(error).split())[:200]}"
                ) from None
        for number, size in enumerate(sizes):
            groups.append((key, number, total))
            total += size
    table = pa.concat_tables(tables, promote_options="permissive")
    labels = table["label"].to_pylist()
    given = table["label_name"].to_pylist() if "label_name" in table.column_names else labels
    classes = [str(name) for name in given]
    # Classes in the order of their numbers; names alone are sorted as text.
    place = dict(zip(classes, labels, strict=True))
    order = sorted(place, key=lambda name: (not isinstance(place[name], int), place[name]))
    return [str(value) for value in table["id"].to_pylist()], classes, order, _Parquet(store, tuple(groups))
