"""The selection of a query from the pool's score files.

The best rows are found for each row group, then for each file, then for all. The best of some rows is a table of at
most a query's size, and the best of two such tables is one again, whatever their order. So memory grows with the query
and not with the pool, on workers and in the driver.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

import sisom
from pipeline.config.choices import QueryPlan
from pipeline.errors import PoolError
from pipeline.labels.tally import Labels
from pipeline.score.files import each_file
from pipeline.types import QUERY
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder

SCORE_NAMES = ["inner", "outer", "ratio", "energy", "sisom", "sisome"]
COLUMNS = ["id", "uri", "shard", "predicted", *SCORE_NAMES, "is_ood"]  # and the extra columns of the config
KINDS = ("informative", "novel", "far")
CANDIDATES = pa.schema(
    [
        ("kind", pa.string()),
        ("id", pa.string()),
        ("uri", pa.string()),
        ("shard", pa.int32()),
        ("predicted", pa.string()),
        ("priority", pa.float64()),
    ]
)
# Ties go to the smaller id. The URI only orders two rows of one id, which are an error in the end.
ORDER = [("priority", "descending"), ("id", "ascending"), ("uri", "ascending")]
SPREAD = 8  # novel candidates looked at for each that is asked about


def settled(workspace: Workspace, index: int, labels: Labels) -> frozenset[str]:
    """Return the ids that round `index` must not ask about.

    They are answered, or an earlier query has asked about them. Ids on which annotators disagree are asked about again.
    """
    asked: set[str] = set()
    for earlier in range(index):
        query = Folder.of_round(workspace, earlier).read_table(keys.QUERY, ["id"])
        asked.update(query["id"].to_pylist())
    return labels.answered() | (asked - labels.tied())


@dataclass(frozen=True)
class QueryRules:
    """Rules by which rows are chosen.

    plan      size, strategy and the shares of strange rows
    far_from  energy from which on strange rows are far; None where nothing tells novel from far yet
    seed      of the `random` strategy
    """

    plan: QueryPlan
    far_from: float | None
    seed: int


def gather(
    folder: Folder,
    rules: QueryRules,
    *,
    answered: frozenset[str],
    extra: Sequence[str] = (),
) -> pa.Table:
    """Gather the candidates for a round's query from its score files.

    The work runs on the workers of the started cluster.

    Args:
        folder: of the round, which holds the score files.
        rules: what rows are chosen by.
        answered: ids that are settled.
        extra: columns of the score files beside `COLUMNS`.

    Returns:
        A `CANDIDATES` table, for `query`. It depends on the rows alone, not on their order or their files.
    """
    known = pa.array(sorted(answered), pa.string())
    kept = CANDIDATES.empty_table()
    for found in each_file(candidates, folder, [*COLUMNS, *extra], known, rules):
        kept = merge([kept, found], rules.plan)
    return kept


def candidates(parts: Iterable[pa.Table], answered: pa.Array, rules: QueryRules) -> pa.Table:
    """Return the rows that a query could hold, if these were all.

    Args:
        parts: tables with at least `COLUMNS` of `SCORES`, taken one at a time.
        answered: ids that are left out.
        rules: what rows are chosen by.

    Returns:
        A `CANDIDATES` table, in no order, whose size is bounded by that of the query.
    """
    kept = CANDIDATES.empty_table()
    for part in parts:
        wanted = pa.array(priorities(part, rules.plan.strategy, rules.seed))
        rows = part.select(["id", "uri", "shard", "predicted"]).append_column("priority", wanted)
        rows = rows.append_column("kind", kinds(part, rules.far_from))
        if len(answered):
            rows = rows.filter(pc.invert(pc.is_in(rows["id"], value_set=answered)))
        kept = merge([kept, rows.select(CANDIDATES.names)], rules.plan)
    return kept


def kinds(part: pa.Table, far_from: float | None) -> pa.ChunkedArray:
    """Return the kind of each row.

    In distribution it is informative; out of it, far from the energy `far_from` on, and novel below.
    """
    strange: Any = "novel"
    if far_from is not None:
        strange = pc.if_else(pc.greater_equal(part["energy"], far_from), "far", "novel")
    return pc.if_else(part["is_ood"], strange, "informative")


def merge(found: Sequence[pa.Table], plan: QueryPlan) -> pa.Table:
    """Return the candidates among candidates.

    Merging in any order and grouping returns the same rows.
    """
    rows = pa.concat_tables(found)
    strange = _share(plan, plan.ood_share)
    most = {"informative": plan.size, "novel": SPREAD * strange, "far": _far_budget(plan)}
    return pa.concat_tables([_best(_of_kind(rows, kind), most[kind]) for kind in KINDS])


def query(
    kept: pa.Table, plan: QueryPlan, far_from: float | None, *, groups: Mapping[str, int] | None = None
) -> pa.Table:
    """Choose the query among the merged candidates of all files.

    Far rows get their budget. Novel rows get the rest of the strange share, the best of each group in turn. Informative
    rows get what is left; they fill up where strange rows are too few, never the reverse.

    Args:
        kept: a `CANDIDATES` table of the whole pool.
        plan: size, strategy and the shares of strange rows.
        far_from: the same as in `gather`.
        groups: the group of each novel candidate's id; None if they were not grouped.

    Returns:
        A `QUERY` table, most wanted first.

    Raises:
        PoolError: the query would ask about one id twice.
    """
    far = _best(_of_kind(kept, "far"), _far_budget(plan) if far_from is not None else 0)
    budget = novel_budget(plan, far_from)
    novel, why = _novel(_best(_of_kind(kept, "novel"), SPREAD * budget), budget, far_from, groups=groups)
    usual = _best(_of_kind(kept, "informative"), plan.size - novel.num_rows - far.num_rows)
    picks = pa.concat_tables([usual, novel, far])
    _refuse_twice(picks)
    informative = f"informative: {'picked by' if plan.together else 'high'} {plan.strategy}"
    if plan.strategy == "random":
        informative = "random"
    reasons = (
        [informative] * usual.num_rows
        + why
        + ["far: strange, and like what was out of this world"] * len(far)
    )
    columns = [
        pa.array(range(picks.num_rows)), picks["id"], picks["uri"], picks["priority"], picks["predicted"], reasons
    ]  # fmt: skip
    return pa.table(columns, QUERY.names).cast(QUERY)


def _novel(
    rows: pa.Table, budget: int, far_from: float | None, *, groups: Mapping[str, int] | None
) -> tuple[pa.Table, list[str]]:
    """Choose the novel rows, the best of each group in turn.

    The best of each group come first, then the second best, until the budget is spent. Returns the rows with their
    reasons.
    """
    told = "strange: marked out of distribution" if far_from is None else "novel: strange but near"
    if groups is None:
        chosen = rows.slice(0, budget)
        return chosen, [told] * chosen.num_rows
    taken: Counter[int] = Counter()
    order = []
    for place, name in enumerate(rows["id"].to_pylist()):
        group = groups.get(name, -1)
        order.append((taken[group], place))
        taken[group] += 1
    places = [place for _, place in sorted(order)[:budget]]
    chosen = rows.take(pa.array(places, pa.int64()))
    alike = [taken[groups.get(name, -1)] for name in chosen["id"].to_pylist()]
    return chosen, [f"{told}; {n} of the {rows.num_rows} strangest look alike" for n in alike]


def informative_budget(kept: pa.Table, plan: QueryPlan, far_from: float | None) -> int:
    """Return how many rows the strange ones leave to the informative ones."""
    far, novel = (int(_of_kind(kept, kind).num_rows) for kind in ("far", "novel"))
    strange = min(far, _far_budget(plan)) if far_from is not None else 0
    return plan.size - strange - min(novel, novel_budget(plan, far_from))


def with_informative(kept: pa.Table, picks: pa.Table) -> pa.Table:
    """Replace the informative candidates by picks.

    The picks are those of a strategy that looks at rows together.
    """
    return pa.concat_tables([picks, *(_of_kind(kept, kind) for kind in KINDS[1:])])


def novel_places(kept: pa.Table, plan: QueryPlan, far_from: float | None) -> pa.Table:
    """Return the novel candidates worth grouping, as id and shard.

    Empty if all of them fit into the query.
    """
    budget = novel_budget(plan, far_from)
    rows = _best(_of_kind(kept, "novel"), SPREAD * budget)
    return rows.select(["id", "shard"]).slice(0, rows.num_rows if rows.num_rows > budget else 0)


def novel_budget(plan: QueryPlan, far_from: float | None) -> int:
    """Return how many novel rows a query may hold.

    All strange rows may be novel while no filter tells novel from far.
    """
    return _share(plan, plan.ood_share) - (_far_budget(plan) if far_from is not None else 0)


def _of_kind(rows: pa.Table, kind: str) -> pa.Table:
    return rows.filter(pc.equal(rows["kind"], kind))


def _share(plan: QueryPlan, share: float) -> int:
    return int(plan.size * share + 0.5)


def _far_budget(plan: QueryPlan) -> int:
    return min(_share(plan, plan.far_share), _share(plan, plan.ood_share))


def _best(rows: pa.Table, most: int) -> pa.Table:
    """Return the first rows in `ORDER`, in that order."""
    if not rows.num_rows:  # Arrow can't choose from nothing
        return rows
    return rows.take(pc.select_k_unstable(rows, most, ORDER))


def _refuse_twice(picks: pa.Table) -> None:
    """Refuse a query that holds an id twice.

    Otherwise people would spend time on answers that fit no row.

    Raises:
        PoolError: names the id and its places.
    """
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
    """Return the priority of each row: the strategy's, or its strangeness.

    The strategy's for a row in distribution. A row out of distribution is as wanted as it is strange: by the detector
    that judged, where its score is a column, else by `sisome`. A strategy that looks at features has written its
    priorities into a column while the features were at hand.
    """
    ids, scores = _Ids(part["id"]), scores_in(part)
    if "strangeness" in part.column_names:
        strange = torch.from_numpy(part["strangeness"].to_numpy().astype(np.float64))
    else:
        strange = sisom.ROW_SELECTORS["sisome"]().priority(ids, scores, seed=seed)
    if "priority" in part.column_names:
        wanted = torch.from_numpy(part["priority"].to_numpy().copy())
    elif strategy in sisom.ROW_SELECTORS:
        wanted = sisom.ROW_SELECTORS[strategy]().priority(ids, scores, seed=seed)
    else:
        wanted = strange
    return torch.where(torch.from_numpy(part["is_ood"].to_numpy()), strange, wanted).numpy()


def scores_in(part: pa.Table) -> sisom.Scores:
    """Convert score columns to the library's `Scores`.

    Classes are numbered, since a selector has no use for their names.
    """
    predicted = part["predicted"].combine_chunks().dictionary_encode().indices
    columns = {name: torch.from_numpy(part[name].to_numpy().copy()) for name in SCORE_NAMES}
    return sisom.Scores(predicted=torch.tensor(predicted.to_numpy(), dtype=torch.int64), **columns)


class _Ids(Sequence[str]):
    """An Arrow column as the sequence that selectors expect.

    Ids become text only for selectors that look at them.
    """

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
