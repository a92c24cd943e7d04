"""Values as bytes: equal values make equal bytes."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def canonical(value: Any) -> bytes:
    """Write canonical JSON: sorted keys, no spare white space."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def to_json(value: Any) -> bytes:
    """Write JSON for people and digests: sorted keys, one a line."""
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def to_parquet(table: pa.Table, row_group_size: int | None = None) -> bytes:
    """Write a table as Zstandard Parquet; equal tables make equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group_size)
    data: bytes = sink.getvalue().to_pybytes()
    return data
