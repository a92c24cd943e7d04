"""Tables from outside: limits on what they unfold into."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import LabelError
from pipeline.labels.forms.rows import READERS


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def test_a_small_file_that_unfolds_into_a_large_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.labels.forms.tables.MAX_HELD", 1 << 20)
    table = pa.table({"id": ["x" * 1000] * 5000, "label": ["cat"] * 5000})
    data = parquet(table)
    assert len(data) < 50_000
    with pytest.raises(LabelError, match="f: more than 1048576 bytes when unfolded"):
        list(READERS["parquet"](data, "f"))
