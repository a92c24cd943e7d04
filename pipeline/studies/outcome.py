"""Results of a study: tables, blocks of the report, records for MLflow."""

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
    """Parameters and metrics of a cell, for MLflow."""

    name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Outcome:
    """All results of a study.

    facts    about the study, for the report, by name
    tables   for Parquet; equal to the byte, however often the study was interrupted
    seconds  of each cell's parts; these differ from run to run
    blocks   of the report
    records  for MLflow, one a cell
    """

    facts: Mapping[str, str]
    tables: Mapping[str, pa.Table]
    seconds: pa.Table
    blocks: Sequence[Block]
    records: Sequence[CellRecord] = field(default_factory=tuple)


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return mean and sample standard deviation (n - 1).

    The deviation of a single value is None.
    """
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def percent(mean: float, deviation: float | None = None) -> str:
    """Format a share in percent, like `91.8 ± 0.2`."""
    text = f"{100 * mean:.1f}"
    return text if deviation is None else f"{text} ± {100 * deviation:.1f}"


def marked(
    columns: Sequence[Sequence[float | None]], *, first: int, lowest: Sequence[bool]
) -> frozenset[tuple[int, int]]:
    """Find the best cells of columns of numbers.

    Args:
        columns: the numbers; None is no candidate, and a column with one number has no best.
        first: number of the first column.
        lowest: for each column, whether the lowest value is best.

    Returns:
        The (row, column) of each best cell.
    """
    found = set()
    for i, column in enumerate(columns):
        known = [value for value in column if value is not None]
        if len(known) > 1:
            best = min(known) if lowest[i] else max(known)
            found |= {(row, first + i) for row, value in enumerate(column) if value == best}
    return frozenset(found)


def seconds_table(results: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return the seconds of each part of each cell, one a row."""
    rows = [
        {"cell": result["cell"], "part": part, "seconds": float(value)}
        for result in results
        for part, value in result["seconds"].items()
    ]
    return pa.Table.from_pylist(rows, schema=SECONDS)


SECONDS = pa.schema({"cell": pa.string(), "part": pa.string(), "seconds": pa.float64()})
