"""Tables that people wrote: Parquet files read within bounds, and the columns that labels need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import LabelError, nearest

MAX_BYTES: Final = 1 << 30  # of a file
MAX_ROWS: Final = 10_000_000
MAX_HELD: Final = 4 << 30  # bytes that a small file may unfold into
_BATCH = 4096


def read_foreign(file: pa.NativeFile, place: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file as a table.

    Args:
        file: the open file.
        place: of the file, for messages.
        columns: those of labels that are wanted, where they are there; None for all, whatever they hold.

    Raises:
        LabelError: not Parquet, larger than a table of labels may be, or without the columns that labels need.
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
        found, held = [], 0
        for batch in parquet.iter_batches(_BATCH, columns=sorted(set(schema.names)), use_threads=False):
            held += batch.nbytes
            if held > MAX_HELD:
                raise LabelError(f"{place}: more than {MAX_HELD} bytes when unfolded, too large for labels")
            found.append(batch)
        return pa.Table.from_batches(found) if found else schema.empty_table()


def check_columns(names: Sequence[str], place: str, columns: Sequence[str]) -> None:
    """Refuse a table without ids or labels, or with one of `columns` twice."""
    for name in ("id", "label"):
        if name not in names:
            raise LabelError(f"{place}: no column {name!r}; {nearest(name, names)}")
    for name in columns:
        if names.count(name) > 1:
            raise LabelError(f"{place}: {names.count(name)} columns {name!r}")


def check_size(size: int, place: str) -> None:
    """Refuse a file that is too large to be read at once."""
    if size > MAX_BYTES:
        raise LabelError(f"{place}: {size} bytes are too many for labels ({MAX_BYTES})")


@contextmanager
def not_parquet(place: str) -> Iterator[None]:
    """One that can't be read is people's to put right."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise LabelError(f"{place}: not a Parquet file: {' '.join(str(error).split())[:300]}") from None
