"""A pool's scores at a glance: how they are spread, and known against unknown where truth exists.

A tally counts rows by the place of their score on a fixed scale. The tallies of parts add up to that of the whole,
in any order, so a pool of any size is viewed a row group at a time. This room and the simulated oracle are the only
ones that read truths.
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
class PoolView:
    """What one pass over the score files tells evaluation and the report."""

    edges: tuple[float, ...]
    counts: dict[str, tuple[int, ...]]
    ood_auroc: float | None
    ood_fpr95: float | None
    is_ood: int


@dataclass(frozen=True)
class Tally:
    """Rows of each kind by place, each pair once, and how many rows are marked out of distribution."""

    places: pa.Table
    marked: int


def view_scores(folder: Folder, score: str, truth: Truth | None, labeled: frozenset[str]) -> PoolView:
    """Histogram of a score, and known against unknown (higher = stranger; unknown and far are positive).

    Labeled rows are left out: they are in the bank themselves. Without truth, memory is of the number of places,
    which is at most 4 million and about a hundred thousand in practice. With truth, as in simulations, AUROC and
    FPR95 are exact, which takes some tens of bytes a row in the driver.
    """
    kinds = None
    if truth is not None:
        numbers = pa.array([NAMES.index(kind) for kind in truth.kinds.values()], pa.int8())
        kinds = pa.table({"id": pa.array(truth.kinds, pa.string()), "kind": numbers})
    known = pa.array(sorted(labeled), pa.string())
    whole = Tally(PLACES.empty_table(), 0)
    for part in each_file(tally, folder, ["id", score, "is_ood"], score, known, kinds):
        whole = add([whole, part])
    return view(whole)


def tally(parts: Iterable[pa.Table], score: str, labeled: pa.Array, kinds: pa.Table | None) -> Tally:
    """Count the rows of tables, taken one at a time.

    Args:
        parts: tables with `id`, `is_ood` and the score.
        score: the column to look at, float32 and finite.
        labeled: ids that are counted among the marked alone.
        kinds: `id` and `kind`, a number in `NAMES`; places are exact with it.
    """
    if kinds is not None:  # a look-up table of all truths takes longer to make than a row group to read
        parts = [pa.concat_tables(found)] if (found := list(parts)) else []
    whole = Tally(PLACES.empty_table(), 0)
    for part in parts:
        fresh = part.filter(pc.invert(pc.is_in(part["id"], value_set=labeled)))
        places = _places(fresh[score].to_numpy(), exact=kinds is not None)
        kind: Any = np.zeros(len(places), np.int8)
        if kinds is not None:
            found_at = pc.index_in(fresh["id"], value_set=kinds["id"])
            kind = pc.fill_null(kinds["kind"].take(found_at), pa.scalar(0, pa.int8()))
        rows = pa.table([kind, places, np.ones(len(places), np.int64)], schema=PLACES)
        whole = add([whole, Tally(rows, pc.sum(part["is_ood"]).as_py() or 0)])
    return whole


def add(tallies: Sequence[Tally]) -> Tally:
    """The tally of all their rows."""
    rows = pa.concat_tables([one.places for one in tallies])
    sums = rows.group_by(["kind", "place"], use_threads=False).aggregate([("rows", "sum")])
    return Tally(sums.rename_columns(PLACES.names).cast(PLACES), sum(one.marked for one in tallies))


def view(whole: Tally) -> PoolView:
    """What a person looks at; the edges span all but the outermost thousandth at either end."""
    table = whole.places.sort_by("place")
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
    return PoolView(tuple(edges.tolist()), counts, auroc, fpr95, whole.marked)


def _judged(known: np.ndarray[Any, Any], unknown: np.ndarray[Any, Any]) -> tuple[float, float]:
    import torch  # not above: workers that only count start faster without it

    import sisom.metrics

    both = torch.from_numpy(known), torch.from_numpy(unknown)
    return sisom.metrics.auroc(*both), sisom.metrics.fpr_at_tpr(*both)


def _places(scores: np.ndarray[Any, Any], *, exact: bool) -> np.ndarray[Any, Any]:
    """Finite float32 to uint32 in the same order; not `exact`, to the middle of the numbers that begin alike."""
    bits = (scores + np.float32(0)).view(np.uint32)  # 0.0 for -0.0
    places = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    if exact:
        return places
    drop = 32 - FINE
    return places >> drop << drop | np.uint32(1 << drop - 1)


def _values(places: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The scores at places, float64."""
    bits = np.where(places & _SIGN, places ^ _SIGN, ~places)
    return bits.view(np.float32).astype(np.float64)
