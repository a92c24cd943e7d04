"""The contents of a round's report: `round_page` and `plots` draw them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TOP_CLASSES = 24  # of a long taxonomy


@dataclass(frozen=True)
class RoundLine:
    """A round of the learning curve."""

    index: int
    labeled_total: int
    test_accuracy: float | None = None
    r_avg: float | None = None
    ood_auroc: float | None = None
    ood_fpr95: float | None = None


@dataclass(frozen=True)
class Histogram:
    """Counts between `edges`, one row a group.

    The group is `pool`, or `known`, `unknown` and `far` where truth exists.
    """

    edges: tuple[float, ...]
    counts: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class QueryCard:
    """An image of the query; `thumbnail` is a PNG.

    `answer` is there once somebody has answered.
    """

    rank: int
    id: str
    score: float | None
    predicted: str | None
    reason: str
    answer: str | None = None
    thumbnail: bytes | None = None


@dataclass(frozen=True)
class ReportView:
    """The complete contents of a report.

    `metrics` is the round's metrics.json; a missing value is shown as a dash. `changes` names the config keys whose
    value differs from the round before, each with its round. `test_unreadable` names test images that no accuracy
    counts: id, place and reason; `metrics` says how many there are.
    """

    project: str
    index: int
    rounds: tuple[RoundLine, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    score: str = "sisome"
    threshold: float | None = None
    histogram: Histogram | None = None
    query: tuple[QueryCard, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    other_answers: Mapping[str, int] = field(default_factory=dict)
    quarantine: tuple[tuple[str, str, int], ...] = ()
    slopes: Mapping[str, float] = field(default_factory=dict)
    slopes_note: str | None = None
    default_r_avg: float | None = None
    changes: tuple[tuple[int, str], ...] = ()
    test_unreadable: tuple[tuple[str, str, str], ...] = ()


def is_number(value: object) -> bool:
    """Return whether there is a number to show."""
    return isinstance(value, int | float) and math.isfinite(value)


def total(histogram: Histogram | None) -> int:
    """Return the sum of all counts of a histogram."""
    return sum(sum(row) for row in histogram.counts.values()) if histogram else 0
