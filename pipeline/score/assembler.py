"""Assembly of whole shards from rows in any order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class ShardAssembler:
    """Collect scored rows, and return each shard once it is whole.

    Rows come in any order. Memory: the score rows of the shards in flight. Rows that come twice, as after a worker's
    death, count once.
    """

    def __init__(self, rows: Mapping[int, int]) -> None:
        """Await shards; `rows` holds the number of rows of each."""
        self._rows = dict(rows)
        self._missing: dict[int, np.ndarray[tuple[int], np.dtype[np.bool_]]] = {}
        self._parts: dict[int, list[pa.Table]] = {}

    def add(self, table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        """Take `SCORED` rows; yield the shards that are now whole.

        A shard comes as (shard, its rows in stored order).
        """
        for shard in pc.unique(table["shard"]).to_pylist():
            if shard not in self._rows:  # returned already
                continue
            missing = self._missing.setdefault(shard, np.ones(self._rows[shard], np.bool_))
            part = table.filter(pc.equal(table["shard"], shard))
            rows, first = np.unique(part["row"].to_numpy(), return_index=True)
            fresh = missing[rows]
            missing[rows] = False
            parts = self._parts.setdefault(shard, [])
            parts.append(part.take(first[fresh]))
            if not missing.any():
                del self._parts[shard], self._missing[shard], self._rows[shard]
                yield shard, pa.concat_tables(parts).sort_by("row")
