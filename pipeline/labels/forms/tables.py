"""Tables of labels, read within bounds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.sections import Storage
from pipeline.errors import LabelError, nearest
from pipeline.labels.forms.values import Unreadable
from pipeline.store.opening import open_store
from pipeline.types import LABELS, Label

MAX_BYTES: Final = 1 << 30  # of a file
MAX_ROWS: Final = 10_000_000
MAX_HELD: Final = 1 << 30  # bytes that a small file may unfold into
_BATCH = 4096


@dataclass(frozen=True)
class Columns:
    """The columns that hold ids and labels, where they are called otherwise.

    id, label   their names; by default the column of that name
    """

    id: str | None = None
    label: str | None = None

    def name_of(self, name: str) -> str:
        """Return what a file calls one of our columns."""
        return {"id": self.id, "label": self.label}.get(name) or name


OURS: Final = Columns()


def label_table(labels: Iterable[Label]) -> pa.Table:
    """Return labels as the table of a label file, sorted by id."""
    rows = sorted(labels, key=lambda label: label.id)
    columns = {name: [getattr(row, name) for row in rows] for name in LABELS.names}
    return pa.table(columns, schema=LABELS)


def read_tables(uri: str, storage: Storage) -> pa.Table:
    """Read labels or truths: a Parquet object, or all of a folder.

    Raises:
        LabelError: nothing there, or nothing that can be read.
    """
    store = open_store(uri, storage)
    tables = []
    for entry in store.list():
        if entry.key == "" or entry.key.endswith(".parquet"):
            with store.open(entry.key) as file:
                tables.append(read_foreign(file, store.url(entry.key)))
    if not tables:
        raise LabelError(f"{uri}: does not exist or holds no Parquet file")
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise LabelError(f"{uri}: its files do not fit together: {' '.join(str(error).split())}") from None


def read_foreign(
    file: pa.NativeFile, place: str, columns: Sequence[str] | None = None, *, called: Columns = OURS
) -> pa.Table:
    """Read a Parquet file as a table.

    Args:
        file: the open file.
        place: of the file, for messages.
        columns: names of the columns to read, as far as they are there; None for all, whatever they hold.
        called: what the file calls its ids and labels; they get our names.

    Raises:
        LabelError: not Parquet, larger than a table of labels may be, or, with `columns`, without those that labels
            need.
    """
    with not_parquet(place):
        check_size(file.size(), place)
        parquet = pq.ParquetFile(file)
        schema = parquet.schema_arrow
        names = dict(enumerate(schema.names))
        if columns is not None:
            taken = columns_of(schema.names, place, columns, called=called)
            names = {at: name for name, at in taken.items()}
            schema = pa.schema([schema.field(at).with_name(name) for at, name in names.items()])
        if parquet.metadata.num_rows > MAX_ROWS:
            raise LabelError(
                f"{place}: {parquet.metadata.num_rows} rows are too many for labels ({MAX_ROWS})"
            )
        wanted = {parquet.schema_arrow.names[at]: name for at, name in names.items()}
        batches, held = [], 0
        for batch in parquet.iter_batches(_BATCH, columns=sorted(wanted), use_threads=False):
            held += batch.nbytes
            if held > MAX_HELD:
                raise LabelError(f"{place}: more than {MAX_HELD} bytes when unfolded, too large for labels")
            batches.append(batch.rename_columns([wanted[name] for name in batch.schema.names]))
        return pa.Table.from_batches(batches) if batches else schema.empty_table()


def columns_of(
    names: Sequence[str],
    place: str,
    columns: Sequence[str],
    *,
    called: Columns = OURS,
    needs: Collection[str] = ("id", "label"),
) -> dict[str, int]:
    """Return where columns stand, by their names.

    White space around a name and its case do not matter, unless a column of the very name is there.

    Args:
        names: of the file.
        place: of the file, for messages.
        columns: wanted; those that are not there are left out.
        called: what the file calls its ids and labels.
        needs: those that must be there.

    Raises:
        LabelError: a needed one is missing, or one of `columns` is there twice.
    """
    found: dict[str, int] = {}
    for column in columns:
        name = called.name_of(column)
        at = [i for i, other in enumerate(names) if other == name]
        at = at or [i for i, other in enumerate(names) if _heading(other) == _heading(name)]
        if len(at) > 1:
            raise LabelError(f"{place}: {len(at)} columns {name!r}")
        if not at and column in needs:
            raise LabelError(f"{place}: no column {name!r}; {nearest(name, names)}")
        if at:
            found[column] = at[0]
    return found


def _heading(name: str) -> str:
    return name.strip().strip("\N{ZERO WIDTH NO-BREAK SPACE}").strip().casefold()


def cells(column: pa.ChunkedArray) -> list[Any]:
    """Return the values of a column.

    A value that its bytes do not make, such as text that is no UTF-8 or a time beyond the year 9999, is
    `Unreadable`.
    """
    if pa.types.is_timestamp(column.type) and column.type.unit != "us":
        with suppress(pa.ArrowException):  # too far away for microseconds: found below, value by value
            nanoseconds = column.type.unit == "ns"
            column = column.cast(pa.timestamp("us", column.type.tz), safe=not nanoseconds)
    try:
        values: list[Any] = column.to_pylist()
    except _UNREADABLE:
        return [_cell(column, place) for place in range(len(column))]
    return values


_UNREADABLE: Final = (ValueError, OverflowError, KeyError, pa.ArrowException)


def _cell(column: pa.ChunkedArray, place: int) -> Any:
    try:
        return column[place].as_py()
    except _UNREADABLE as error:
        return Unreadable(f"no value of type {column.type}: {' '.join(str(error).split())[:100]}")


def check_size(size: int, place: str) -> None:
    """Raise `LabelError` for a file too large to read at once."""
    if size > MAX_BYTES:
        raise LabelError(f"{place}: {size} bytes are too many for labels ({MAX_BYTES})")


@contextmanager
def not_parquet(place: str) -> Iterator[None]:
    """Raise `LabelError` for a file that is not Parquet."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise LabelError(f"{place}: not a Parquet file: {' '.join(str(error).split())[:300]}") from None
