"""What a study found, as values: tables for Parquet, blocks for the report, one record a cell for MLflow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.report.blocks import Block

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class CellRecord:
    """What MLflow learns of a cell."""

    name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Outcome:
    """All of it. `tables` are equal, byte for byte, however often the study was interrupted; `seconds` are not."""

    facts: Mapping[str, str]
    tables: Mapping[str, pa.Table]
    seconds: pa.Table
    blocks: Sequence[Block]
    records: Sequence[CellRecord] = field(default_factory=tuple)


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1); None for a single value."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def percent(mean: float, deviation: float | None = None) -> str:
    """As people read it: `91.8 ± 0.2`, in percent."""
    text = f"{100 * mean:.1f}"
    return text if deviation is None else f"{text} ± {100 * deviation:.1f}"


def marked(
    columns: Sequence[Sequence[float | None]], *, first: int, lowest: Sequence[bool]
) -> frozenset[tuple[int, int]]:
    """The best cells of columns of numbers, as (row, column); `first` is the number of the first column."""
    found = set()
    for i, column in enumerate(columns):
        known = [value for value in column if value is not None]
        if len(known) > 1:
            best = min(known) if lowest[i] else max(known)
            found |= {(row, first + i) for row, value in enumerate(column) if value == best}
    return frozenset(found)


def seconds_table(results: Sequence[Mapping[str, Any]]) -> pa.Table:
    """What each cell took, a row for each of its parts."""
    rows = [
        {"cell": result["cell"], "part": part, "seconds": float(value)}
        for result in results
        for part, value in result["seconds"].items()
    ]
    return pa.Table.from_pylist(rows, schema=SECONDS)


SECONDS = pa.schema({"cell": pa.string(), "part": pa.string(), "seconds": pa.float64()})
