"""Summaries of a pool's scores: their histogram, and known against unknown images.

`Counts` holds rows by the place of their score on a fixed scale. The counts of parts add up to those of the pool in any
order, so a pool of any size is summarized a row group at a time. This module and the simulated oracle are the only ones
that read truths.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.labels.oracle import KINDS, Truth
from pipeline.score.files import each_file
from pipeline.workspace.folder import Folder

BINS = 40
NAMES = ("pool", *KINDS)
FINE = 22  # bits of a place without truth: sign, exponent, 13 of the fraction, so 1 part in 8192 or better
PLACES = pa.schema([("kind", pa.int8()), ("place", pa.uint32()), ("rows", pa.int64())])

_SIGN = np.uint32(0x80000000)


@dataclass(frozen=True)
class ScoreSummary:
    """The numbers of a pool's scores that metrics and report show.

    Attributes:
        edges: of the histogram's bars.
        counts: rows in each bar, by the names of `NAMES`.
        ood_auroc, ood_fpr95: known against unknown and far rows; None without truth.
        is_ood: rows marked out of distribution, labeled ones among them.
    """

    edges: tuple[float, ...]
    counts: dict[str, tuple[int, ...]]
    ood_auroc: float | None
    ood_fpr95: float | None
    is_ood: int


@dataclass(frozen=True)
class Counts:
    """Rows by kind and place, each pair once, and marked rows."""

    places: pa.Table
    marked: int


@dataclass(frozen=True)
class Groups:
    """The rows that a summary tells apart.

    Attributes:
        labeled: ids that count among the marked rows alone: they are in the bank themselves.
        kinds: `id` and `kind`, a number in `NAMES`, where truth is known; places are exact with it.
    """

    labeled: pa.Array
    kinds: pa.Table | None = None


def summarize_scores(
    folder: Folder, score: str, *, truth: Truth | None, labeled: frozenset[str]
) -> ScoreSummary:
    """Summarize a score of the whole pool.

    Higher is stranger; for AUROC and FPR95, unknown and far rows are positive.

    Labeled rows are left out: they are in the bank themselves. Without truth, memory is of the number of places,
    which is at most 4 million and about a hundred thousand in practice. With truth, as in simulations, AUROC and
    FPR95 are exact, which takes some tens of bytes a row in the driver.
    """
    kinds = None
    if truth is not None:
        numbers = pa.array([NAMES.index(kind) for kind in truth.kinds.values()], pa.int8())
        kinds = pa.table({"id": pa.array(truth.kinds, pa.string()), "kind": numbers})
    groups = Groups(pa.array(sorted(labeled), pa.string()), kinds)
    total = Counts(PLACES.empty_table(), 0)
    for part in each_file(count_rows, folder, ["id", score, "is_ood"], score, groups):
        total = add([total, part])
    return summary(total)


def count_rows(parts: Iterable[pa.Table], score: str, groups: Groups) -> Counts:
    """Count the rows of tables, taken one at a time.

    Args:
        parts: tables with `id`, `is_ood` and the score.
        score: the column to look at, float32 and finite.
        groups: the rows to leave out, and the kinds to tell apart.
    """
    kinds = groups.kinds
    if kinds is not None:  # a look-up table of all truths takes longer to make than a row group to read
        tables = list(parts)
        parts = [pa.concat_tables(tables)] if tables else []
    total = Counts(PLACES.empty_table(), 0)
    for part in parts:
        fresh = part.filter(pc.invert(pc.is_in(part["id"], value_set=groups.labeled)))
        places = _places(fresh[score].to_numpy(), exact=kinds is not None)
        kind: Any = np.zeros(len(places), np.int8)
        if kinds is not None:
            truths = pc.index_in(fresh["id"], value_set=kinds["id"])
            kind = pc.fill_null(kinds["kind"].take(truths), pa.scalar(0, pa.int8()))
        rows = pa.table([kind, places, np.ones(len(places), np.int64)], schema=PLACES)
        total = add([total, Counts(rows, pc.sum(part["is_ood"]).as_py() or 0)])
    return total


def add(parts: Sequence[Counts]) -> Counts:
    """Add up the counts of parts."""
    rows = pa.concat_tables([part.places for part in parts])
    sums = rows.group_by(["kind", "place"], use_threads=False).aggregate([("rows", "sum")])
    return Counts(sums.rename_columns(PLACES.names).cast(PLACES), sum(part.marked for part in parts))


def summary(total: Counts) -> ScoreSummary:
    """Return what people look at.

    The edges span all scores but the outermost thousandth at either end.
    """
    table = total.places.sort_by("place")
    kind, rows = table["kind"].to_numpy(), table["rows"].to_numpy()
    values = _values(table["place"].to_numpy())
    low, high = 0.0, 1.0
    if len(values):
        low, high = np.quantile(values, [0.001, 0.999], method="inverted_cdf", weights=rows)
    edges = np.linspace(low, max(high, low + 1e-6 * max(1, abs(low))), BINS + 1)
    inside = np.clip(values, edges[0], edges[-1])
    counts = {
        name: tuple(np.histogram(inside[kind == i], edges, weights=rows[kind == i])[0].tolist())
        for i, name in enumerate(NAMES)
        if (kind == i).any()
    }
    known, unknown = (np.repeat(values[which], rows[which]) for which in (kind == 1, kind >= 2))
    auroc, fpr95 = _judged(known, unknown) if len(known) and len(unknown) else (None, None)
    return ScoreSummary(tuple(edges.tolist()), counts, auroc, fpr95, total.marked)


def _judged(known: np.ndarray[Any, Any], unknown: np.ndarray[Any, Any]) -> tuple[float, float]:
    import torch  # not above: workers that only count start faster without it

    import sisom.metrics

    both = torch.from_numpy(known), torch.from_numpy(unknown)
    return sisom.metrics.auroc(*both), sisom.metrics.fpr_at_tpr(*both)


def _places(scores: np.ndarray[Any, Any], *, exact: bool) -> np.ndarray[Any, Any]:
    """Map finite float32 to uint32 in the same order.

    Not `exact`, they go to the middle of the numbers that begin alike.
    """
    bits = (scores + np.float32(0)).view(np.uint32)  # 0.0 for -0.0
    places = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    if exact:
        return places
    drop = 32 - FINE
    return places >> drop << drop | np.uint32(1 << drop - 1)


def _values(places: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the scores at places, float64."""
    bits = np.where(places & _SIGN, places ^ _SIGN, ~places)
    return bits.view(np.float32).astype(np.float64)
