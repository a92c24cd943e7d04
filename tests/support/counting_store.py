"""A store on disk that counts how often each object is read."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

from pipeline.store.opening import LocalStore

READS: Counter[str] = Counter()  # by key, of all stores of the process


class CountingStore(LocalStore):
    """Counts in `READS`."""

    def get(self, key: str, **how: Any) -> bytes:
        """See `Store`."""
        READS[key] += 1
        return super().get(key, **how)

    def open(self, key: str, **how: Any) -> pa.NativeFile:
        """See `Store`."""
        READS[key] += 1
        return super().open(key, **how)


def label_reads() -> dict[str, int]:
    """How often each label file was read since this was asked last."""
    found = {key.removeprefix("labels/"): times for key, times in READS.items() if key.startswith("labels/")}
    READS.clear()
    return found
