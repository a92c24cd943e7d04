"""Labeled images outside the pool, as the config names them.

A set is Parquet with a column of classes; or image files or tars beside one table of id and label; or image files in
folders that are named after their classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.parquet as pq

from pipeline.config.project import Config
from pipeline.errors import LabelError, PoolError, nearest
from pipeline.labels.forms.rows import READERS, table_form
from pipeline.labels.forms.tables import Columns, cells, check_size, not_parquet
from pipeline.labels.forms.values import Words, plain
from pipeline.pool.inventory.found import Group, Surveyed
from pipeline.pool.shards import Unit, survey, units
from pipeline.pool.source import PoolSource, key_below
from pipeline.types import Listed


@dataclass(frozen=True)
class SetListing:
    """A labeled set, listed.

    where   the key of the config that names it
    groups  its shards
    labels  the class of each row of each shard, as it is written; None for an image without one
    """

    where: str
    groups: tuple[Group, ...]
    labels: tuple[tuple[str | None, ...], ...]

    def rows(self) -> Iterator[tuple[str, str | None, int, int]]:
        """Yield id, class, shard and row of each image."""
        for shard, (group, labels) in enumerate(zip(self.groups, self.labels, strict=True)):
            for row, (name, label) in enumerate(zip(group.ids.to_pylist(), labels, strict=True)):
                yield name, label, shard, row

    def named(self, known: Words) -> SetListing:
        """Return the listing with the names that the taxonomy has.

        Raises:
            LabelError: a class that the taxonomy does not have; says of which image.
        """
        for name, label, _, _ in self.rows():
            if label is not None and known.find(label) is None:
                raise LabelError(
                    f"{self.where}: {name!r} has the label {label[:200]!r}, which is not in the taxonomy; "
                    f"{nearest(label[:512], known)}"
                )
        found = (tuple(None if label is None else known.find(label) for label in row) for row in self.labels)
        return replace(self, labels=tuple(found))


def read_sets(config: Config, taxonomy: Sequence[str]) -> list[SetListing]:
    """List the labeled sets of a config; images are not read.

    Raises:
        LabelError: an unknown class, a set without labels, an id that stands twice.
        PoolError: nothing there, or a column is missing.
        StoreUnavailable: storage does not answer.
    """
    known = Words(taxonomy, config.labels.renamed)
    found = []
    first: dict[str, str] = {}
    for number, one in enumerate(config.labels.sets):
        where = f"labels.sets: {one.uri}"
        source = replace(PoolSource.of(config), pool=config.pool_of_set(number))
        listing = read_set(where, source, one.label_column).named(known)
        for name, _, _, _ in listing.rows():
            if name in first:
                raise LabelError(f"{where}: id {name!r} stands in {first[name]} before; ids must be unique")
            first[name] = one.uri
        found.append(listing)
    return found


def read_set(where: str, source: PoolSource, label_column: str) -> SetListing:
    """List a labeled set, with its classes as they are written.

    Args:
        where: the key of the config that names it, for messages.
        source: the place, and the columns of ids and images.
        label_column: of Parquet, or of the table beside images.

    Raises:
        LabelError: no labels that can be told.
        PoolError: no images, or a column is missing.
    """
    listed = list(units(source))
    tables = [unit.objects[0] for unit in listed if unit.form == "other" and table_form(unit.objects[0].uri)]
    held = [unit for unit in listed if unit.form in ("parquet", "tar", "image")]
    if not held:
        raise PoolError(f"{where}: no .parquet, .tar or image is there")
    if {unit.form for unit in held} == {"parquet"}:
        return _of_parquet(where, held, source, label_column)
    if any(unit.form == "parquet" for unit in held):
        raise PoolError(f"{where}: holds Parquet files and images; give each a set of its own")
    groups = tuple(group for unit in held for group in _whole(where, survey(unit, source)).groups)
    if len(tables) > 1:
        raise LabelError(
            f"{where}: {len(tables)} tables lie beside the images, such as {tables[0].uri}; keep one"
        )
    if tables:
        labels = _beside(tables[0], groups, source, label_column)
    else:
        labels = [[_folder(where, name) for name in group.ids.to_pylist()] for group in groups]
    return SetListing(where, groups, tuple(map(tuple, labels)))


def _of_parquet(where: str, held: Sequence[Unit], source: PoolSource, column: str) -> SetListing:
    groups = [group for unit in held for group in _whole(where, survey(unit, source)).groups]
    labels = []
    for group in groups:
        item = group.listed[0]
        with not_parquet(item.uri), source.store.open(key_below(source.store, item.uri)) as file:
            parquet = pq.ParquetFile(file)
            names = parquet.schema_arrow.names
            if column not in names:
                raise PoolError(f"{where}: {item.uri} has no column {column!r}; {nearest(column, names)}")
            values = cells(parquet.read_row_group(item.row_group, [column])[column])
        labels.append(tuple(_text(value, f"{item.uri}, row {row}") for row, value in enumerate(values)))
    return SetListing(where, tuple(groups), tuple(labels))


def _whole(where: str, found: Surveyed) -> Surveyed:
    """Refuse a set with a file that can't be read in full."""
    for lost in found.lost:
        raise PoolError(f"{where}: {lost.uri} can't be read in full: {lost.reason}")
    return found


def _text(value: Any, place: str) -> str | None:
    try:
        return plain(value)
    except LabelError as error:
        raise LabelError(f"{place}: {error}") from None


def _beside(
    table: Listed, groups: Sequence[Group], source: PoolSource, column: str
) -> list[list[str | None]]:
    """Read the table of id and label that lies beside images."""
    check_size(table.size, table.uri)
    columns = Columns(source.pool.id_column or "id", column)
    data = source.store.get(key_below(source.store, table.uri))
    known = Words(name for group in groups for name in group.ids.to_pylist())
    said: dict[str, str | None] = {}
    for answer in READERS[table_form(table.uri) or ""](data, table.uri, columns):
        place = f"{table.uri}, {answer.where}"
        if answer.problem is not None:
            raise LabelError(f"{place}: {answer.problem}")
        name, label = (_text(answer.values.get(key), place) for key in ("id", "label"))
        found = None if name is None else known.find(name)
        if name is None or found is None:
            hint = "no id" if name is None else f"no image {name[:200]!r}; {nearest(name[:200], known)}"
            raise LabelError(f"{place}: {hint}")
        if said.setdefault(found, label) != label:
            raise LabelError(f"{place}: {found!r} is {label!r} here, and {said[found]!r} before")
    if not any(said.values()):
        raise LabelError(f"{table.uri}: holds no label")
    return [[said.get(name) for name in group.ids.to_pylist()] for group in groups]


def _folder(where: str, name: str) -> str:
    folder, slash, _ = name.partition("/")
    if not slash:
        raise LabelError(
            f"{where}: {name!r} lies in no folder that is named after a class, and no table of id and label is there"
        )
    return folder
