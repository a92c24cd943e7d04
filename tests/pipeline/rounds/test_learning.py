"""Steps that learn from labels: what is refused."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.errors import PoolError
from pipeline.pool.reading import BROKEN
from pipeline.rounds.learning import require_rows


def test_a_labeled_set_of_which_nothing_can_be_read_is_refused_with_its_place() -> None:
    rows = [{"id": f"a\x1b{n}", "uri": "s3://b/k", "reason": "gone"} for n in range(3)]
    broken = pa.Table.from_pylist(rows, schema=BROKEN)
    with pytest.raises(PoolError, match="none of the 3 labeled images can be read") as raised:
        require_rows(broken, 0)
    assert "s3://b/k: gone" in str(raised.value)
    assert "\x1b" not in str(raised.value)
    require_rows(broken, 1)
    require_rows(BROKEN.empty_table(), 0)
