"""From the pool's score files to a query: the best of each row group, of each file, of all.

The best of some rows is a table of at most a query's size, and the best of two such tables is one again, whatever
their order. So the memory is of the query and not of the pool, on workers and in the driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

import sisom
from pipeline.config import QueryPlan
from pipeline.errors import PoolError
from pipeline.score_files import each_file
from pipeline.types import QUERY
from pipeline.workspace import Workspace

SCORE_NAMES = ["inner", "outer", "ratio", "energy", "sisom", "sisome"]
COLUMNS = ["id", "uri", "predicted", *SCORE_NAMES, "is_ood"]
CANDIDATES = pa.schema(
    [
        ("id", pa.string()),
        ("uri", pa.string()),
        ("predicted", pa.string()),
        ("priority", pa.float64()),
        ("is_ood", pa.bool_()),
    ]
)
# Ties go to the smaller id. The place only tells apart two rows of one id, which are an error in the end.
ORDER = [("priority", "descending"), ("id", "ascending"), ("uri", "ascending")]


def select(
    workspace: Workspace, prefix: str, answered: frozenset[str], plan: QueryPlan, *, seed: int
) -> pa.Table:
    """Choose the round's query from its score files, on the workers of the started cluster.

    `ood_share` of it goes to the strangest rows that are marked out of distribution, the rest to the rows in
    distribution that the strategy puts first. Where rows of the one kind are too few, those in distribution may
    fill up for the others, never the reverse.

    Args:
        workspace: where the score files lie.
        prefix: of the round, such as `rounds/003/`.
        answered: ids that have an answer already.
        plan: size, strategy and the share of strange rows.
        seed: of the `random` strategy.

    Returns:
        A `QUERY` table, most wanted first. It depends on the rows alone, not on their order or their files.

    Raises:
        PoolError: the query would ask about one id twice.
    """
    known = pa.array(sorted(answered), pa.string())
    kept = CANDIDATES.empty_table()
    for found in each_file(candidates, workspace, prefix, COLUMNS, known, plan, seed):
        kept = merge([kept, found], plan)
    return query(kept, plan)


def candidates(parts: Iterable[pa.Table], answered: pa.Array, plan: QueryPlan, seed: int) -> pa.Table:
    """Those of the rows that a query could hold, if these were all.

    Args:
        parts: tables with at least `COLUMNS` of `SCORES`, taken one at a time.
        answered: ids that are left out.
        plan: size, strategy and the share of strange rows.
        seed: of the `random` strategy.

    Returns:
        A `CANDIDATES` table of no more rows than `plan.size` and its strange share, in no order.
    """
    kept = CANDIDATES.empty_table()
    for part in parts:
        rows = part.append_column("priority", pa.array(priorities(part, plan.strategy, seed)))
        if len(answered):
            rows = rows.filter(pc.invert(pc.is_in(rows["id"], value_set=answered)))
        kept = merge([kept, rows.select(CANDIDATES.names)], plan)
    return kept


def merge(found: Sequence[pa.Table], plan: QueryPlan) -> pa.Table:
    """The candidates among candidates; merging in any order and grouping comes to the same rows."""
    rows = pa.concat_tables(found)
    strange = rows["is_ood"]
    return pa.concat_tables(
        [
            _best(rows.filter(pc.invert(strange)), plan.size),
            _best(rows.filter(strange), _strange_share(plan)),
        ]
    )


def query(kept: pa.Table, plan: QueryPlan) -> pa.Table:
    """The `QUERY` table of the merged candidates of all files; `PoolError` if an id stands in it twice."""
    odd = _best(kept.filter(kept["is_ood"]), _strange_share(plan))
    usual = _best(kept.filter(pc.invert(kept["is_ood"])), plan.size - odd.num_rows)
    picks = pa.concat_tables([usual, odd])
    _refuse_twice(picks)
    informative = "random" if plan.strategy == "random" else f"informative: high {plan.strategy}"
    reasons = pc.if_else(picks["is_ood"], "strange: marked out of distribution", informative)
    columns = [
        pa.array(range(picks.num_rows)), picks["id"], picks["uri"], picks["priority"], picks["predicted"], reasons
    ]  # fmt: skip
    return pa.table(columns, QUERY.names).cast(QUERY)


def _strange_share(plan: QueryPlan) -> int:
    return int(plan.size * plan.ood_share + 0.5)


def _best(rows: pa.Table, most: int) -> pa.Table:
    """The first rows in `ORDER`, in that order."""
    if not rows.num_rows:  # Arrow can't choose from nothing
        return rows
    return rows.take(pc.select_k_unstable(rows, most, ORDER))


def _refuse_twice(picks: pa.Table) -> None:
    """Before somebody spends an hour on answers that fit no row."""
    times = pc.value_counts(picks["id"])
    again = times.filter(pc.greater(times.field("counts"), 1))
    if len(again):
        twice = again.field("values")[0]
        places = pc.unique(picks["uri"].filter(pc.equal(picks["id"], twice))).to_pylist()
        raise PoolError(
            f"id {twice.as_py()!r} stands more than once in the pool: in {' and '.join(sorted(places))}; "
            f"ids must be unique"
        )


def priorities(part: pa.Table, strategy: str, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """What the strategy gives a row in distribution, and `sisome` a row out of it."""
    ids, scores = _Ids(part["id"]), _scores(part)
    wanted = sisom.SELECTORS[strategy]().priority(ids, scores, seed=seed)
    strange = sisom.SELECTORS["sisome"]().priority(ids, scores, seed=seed)
    return torch.where(torch.from_numpy(part["is_ood"].to_numpy()), strange, wanted).numpy()


def _scores(part: pa.Table) -> sisom.Scores:
    """Score columns as the library's value; class names are of no use to a selector, so they are numbered."""
    predicted = part["predicted"].combine_chunks().dictionary_encode().indices
    columns = {name: torch.from_numpy(part[name].to_numpy().copy()) for name in SCORE_NAMES}
    return sisom.Scores(predicted=torch.tensor(predicted.to_numpy(), dtype=torch.int64), **columns)


class _Ids(Sequence[str]):
    """An Arrow column as the sequence that selectors expect: text only for those that look at ids."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __iter__(self) -> Iterator[str]:
        return iter(self._column.to_pylist())

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[str]: ...
    def __getitem__(self, row: int | slice) -> str | Sequence[str]:
        if isinstance(row, slice):
            return _Ids(self._column[row])
        text: str = self._column[row].as_py()
        return text
