"""Tables of labels, read within bounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.sections import Storage
from pipeline.errors import LabelError, nearest
from pipeline.store.opening import open_store
from pipeline.types import LABELS, Label

MAX_BYTES: Final = 1 << 30  # of a file
MAX_ROWS: Final = 10_000_000
MAX_HELD: Final = 4 << 30  # bytes that a small file may unfold into
_BATCH = 4096


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


def read_foreign(file: pa.NativeFile, place: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file as a table.

    Args:
        file: the open file.
        place: of the file, for messages.
        columns: names of the columns to read, as far as they are there; None for all, whatever they hold.

    Raises:
        LabelError: not Parquet, larger than a table of labels may be, or, with `columns`, without those that labels
            need.
    """
    with not_parquet(place):
        check_size(file.size(), place)
        parquet = pq.ParquetFile(file)
        schema = parquet.schema_arrow
        if columns is not None:
            check_columns(schema.names, place, columns)
            schema = pa.schema([field for field in schema if field.name in columns])
        if parquet.metadata.num_rows > MAX_ROWS:
            raise LabelError(
                f"{place}: {parquet.metadata.num_rows} rows are too many for labels ({MAX_ROWS})"
            )
        batches, held = [], 0
        for batch in parquet.iter_batches(_BATCH, columns=sorted(set(schema.names)), use_threads=False):
            held += batch.nbytes
            if held > MAX_HELD:
                raise LabelError(f"{place}: more than {MAX_HELD} bytes when unfolded, too large for labels")
            batches.append(batch)
        return pa.Table.from_batches(batches) if batches else schema.empty_table()


def check_columns(names: Sequence[str], place: str, columns: Sequence[str]) -> None:
    """Raise `LabelError` for missing or duplicate columns.

    `id` and `label` must be there; none of `columns` may be there twice.
    """
    for name in ("id", "label"):
        if name not in names:
            raise LabelError(f"{place}: no column {name!r}; {nearest(name, names)}")
    for name in columns:
        if names.count(name) > 1:
            raise LabelError(f"{place}: {names.count(name)} columns {name!r}")


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
