"""From the pool's score files to a query: one file at a time, memory of the query and not of the pool."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import torch

import sisom
from pipeline.config import QueryPlan
from pipeline.errors import PoolError
from pipeline.types import QUERY


@dataclass(frozen=True, order=False)
class _Pick:
    """A candidate; the larger is asked first, ties to the smaller id."""

    priority: float
    id: str
    uri: str
    predicted: str
    is_ood: bool

    def __lt__(self, other: _Pick) -> bool:
        return (-self.priority, self.id) > (-other.priority, other.id)


def select(tables: Iterable[pa.Table], answered: frozenset[str], plan: QueryPlan, *, seed: int) -> pa.Table:
    """Choose the round's query.

    `ood_share` of it goes to the strangest rows that are marked out of distribution, the rest to the rows in
    distribution that the strategy puts first. Where rows of the one kind are too few, those in distribution may
    fill up for the others, never the reverse.

    Args:
        tables: the score files, in any order.
        answered: ids that have an answer already.
        plan: size, strategy and the share of strange rows.
        seed: of the `random` strategy.

    Returns:
        A `QUERY` table, most wanted first. It depends on the rows alone, not on their order or their files.

    Raises:
        PoolError: the query would ask about one id twice.
    """
    selector = sisom.SELECTORS[plan.strategy]()
    strange = sisom.SELECTORS["sisome"]()
    usual_heap: list[_Pick] = []
    odd_heap: list[_Pick] = []
    odd_budget = int(plan.size * plan.ood_share + 0.5)
    for table in tables:
        ids = table["id"].to_pylist()
        scores = _scores(table)
        wanted = selector.priority(ids, scores, seed=seed).tolist()
        strangeness = strange.priority(ids, scores, seed=seed).tolist()
        uris, predicted, is_ood = (table[name].to_pylist() for name in ("uri", "predicted", "is_ood"))
        for i, name in enumerate(ids):
            if name in answered:
                continue
            if is_ood[i]:
                _keep(odd_heap, _Pick(strangeness[i], name, uris[i], predicted[i], True), odd_budget)
            else:
                _keep(usual_heap, _Pick(wanted[i], name, uris[i], predicted[i], False), plan.size)
    odd = sorted(odd_heap, reverse=True)
    usual = sorted(usual_heap, reverse=True)[: plan.size - len(odd)]
    reasons = {False: f"informative: high {plan.strategy}", True: "strange: marked out of distribution"}
    if plan.strategy == "random":
        reasons[False] = "random"
    picks = [*usual, *odd]
    twice, times = Counter(pick.id for pick in picks).most_common(1)[0] if picks else ("", 1)
    if times > 1:  # refused before somebody spends an hour on answers that fit no row
        places = " and ".join(sorted({pick.uri for pick in picks if pick.id == twice}))
        raise PoolError(f"id {twice!r} stands more than once in the pool: in {places}; ids must be unique")
    columns = {
        "rank": range(len(picks)),
        "id": [pick.id for pick in picks],
        "uri": [pick.uri for pick in picks],
        "score": [pick.priority for pick in picks],
        "predicted": [pick.predicted for pick in picks],
        "reason": [reasons[pick.is_ood] for pick in picks],
    }
    return pa.table(
        {name: pa.array(values, QUERY.field(name).type) for name, values in columns.items()}, schema=QUERY
    )


def _keep(heap: list[_Pick], pick: _Pick, most: int) -> None:
    if len(heap) < most:
        heapq.heappush(heap, pick)
    elif heap and heap[0] < pick:
        heapq.heapreplace(heap, pick)


def _scores(table: pa.Table) -> sisom.Scores:
    """Score columns as the library's value; class names are of no use to a selector, so they are numbered."""
    names = {name: i for i, name in enumerate(sorted(set(table["predicted"].to_pylist())))}
    predicted = torch.tensor([names[name] for name in table["predicted"].to_pylist()], dtype=torch.int64)
    columns = {
        name: torch.from_numpy(table[name].to_numpy().copy())
        for name in ("inner", "outer", "ratio", "energy", "sisom", "sisome")
    }
    return sisom.Scores(predicted=predicted, **columns)
