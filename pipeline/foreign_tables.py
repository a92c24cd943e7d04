"""Parquet files that people wrote: read within bounds, and named where they are none."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import LabelError

MAX_BYTES: Final = 1 << 30  # of a file
MAX_ROWS: Final = 10_000_000
MAX_HELD: Final = 4 << 30  # bytes that a small file may unfold into
_BATCH = 4096


def read_foreign(file: pa.NativeFile, place: str, columns: Collection[str] | None = None) -> pa.Table:
    """A Parquet file as a table.

    Args:
        file: the open file.
        place: of the file, for messages.
        columns: those that are wanted, where they are there; None for all.

    Raises:
        LabelError: not Parquet, or larger than a table of labels may be.
    """
    with not_parquet(place):
        check_size(file.size(), place)
        parquet = pq.ParquetFile(file)
        schema = parquet.schema_arrow
        if columns is not None:
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
