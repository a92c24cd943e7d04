"""Equal values are equal bytes."""

from __future__ import annotations

import pyarrow as pa

from pipeline.encoding import to_parquet


def test_equal_tables_are_equal_bytes() -> None:
    table = pa.table({"n": [1, 2]})
    assert to_parquet(table) == to_parquet(
        pa.concat_tables([table.slice(0, 1), table.slice(1)]).combine_chunks()
    )
    assert to_parquet(table) != to_parquet(pa.table({"n": [2, 1]}))
