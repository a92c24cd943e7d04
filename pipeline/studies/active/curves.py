"""Learning curves, and tables of all that was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.studies.active.statistics import Matrix, area, budget_for, friedman_nemenyi, wilcoxon_holm, wins
from pipeline.studies.outcome import spread

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Curve:
    """Measurements of a chain, round by round."""

    strategy: str
    seed: int
    rounds: tuple[Mapping[str, Any], ...]

    @property
    def budgets(self) -> list[int]:
        """Labeled images by round."""
        return [int(line["labeled"]) for line in self.rounds]

    @property
    def accuracy(self) -> list[float]:
        """Test accuracy by round."""
        return [float(line["accuracy"]) for line in self.rounds]


# ------------------------------------------------------------------------------------------------- tables


def tables(curves: Sequence[Curve], targets: Sequence[float]) -> dict[str, pa.Table]:
    """Return all that was measured, as tables by name.

    `rounds` and `queries` hold every round and every query; `summary` has a row for each strategy, `pairs` one for each
    pair of strategies.
    """
    return {
        "rounds": pa.Table.from_pylist(
            [
                {
                    "strategy": curve.strategy,
                    "seed": curve.seed,
                    "round": index,
                    **{name: line.get(name) for name in ("labeled", "accuracy", "classes", *_OPTIONAL)},
                }
                for curve in curves
                for index, line in enumerate(curve.rounds)
            ],
            schema=_ROUNDS,
        ),
        "queries": pa.Table.from_pylist(
            [
                {"strategy": curve.strategy, "seed": curve.seed, "round": index, "rank": rank, "id": name}
                for curve in curves
                for index, line in enumerate(curve.rounds)
                for rank, name in enumerate(line["query"])
            ],
            schema=_QUERIES,
        ),
        "summary": _summary(curves, targets),
        "pairs": _pairs(curves),
    }


_OPTIONAL = ("precision", "recall", "r_avg")
_ROUNDS = pa.schema(
    [("strategy", pa.string()), ("seed", pa.int64()), ("round", pa.int64()), ("labeled", pa.int64())]
    + [("accuracy", pa.float64()), ("classes", pa.int64())]
    + [(name, pa.float64()) for name in _OPTIONAL]
)
_QUERIES = pa.schema(
    [
        ("strategy", pa.string()),
        ("seed", pa.int64()),
        ("round", pa.int64()),
        ("rank", pa.int64()),
        ("id", pa.string()),
    ]
)


def _summary(curves: Sequence[Curve], targets: Sequence[float]) -> pa.Table:
    rows = []
    ranking = friedman_nemenyi(matrix_of(curves))
    for place, name in enumerate(names_of(curves)):
        mine = [curve for curve in curves if curve.strategy == name]
        areas = spread([area(curve.budgets, curve.accuracy) for curve in mine])
        final = spread([curve.accuracy[-1] for curve in mine])
        row: dict[str, Any] = {"strategy": name, "area": areas[0], "area_std": areas[1]}
        row |= {"final": final[0], "final_std": final[1], "rank": ranking.ranks[place] if ranking else None}
        for target in targets:
            row[f"labels_to_{target:g}"] = budget_for(mine[0].budgets, means_of(mine), target)
        rows.append(row)
    floats = ["area", "area_std", "final", "final_std", "rank", *(f"labels_to_{t:g}" for t in targets)]
    return pa.Table.from_pylist(
        rows, schema=pa.schema([("strategy", pa.string()), *((n, pa.float64()) for n in floats)])
    )


def _pairs(curves: Sequence[Curve]) -> pa.Table:
    names, matrix = names_of(curves), matrix_of(curves)
    won, ranking, p = wins(matrix), friedman_nemenyi(matrix), wilcoxon_holm(matrix)
    rows = [
        {
            "strategy": names[i],
            "other": names[j],
            "mean_difference": float((matrix[:, i] - matrix[:, j]).mean()),
            "wins": float(won[i, j]),
            "wilcoxon_holm_p": p[i, j],
            "nemenyi_p": ranking.pairs[i, j] if ranking else None,
        }
        for i, j in combinations(range(len(names)), 2)
    ]
    numbers = ("mean_difference", "wins", "wilcoxon_holm_p", "nemenyi_p")
    schema = pa.schema(
        [("strategy", pa.string()), ("other", pa.string()), *((n, pa.float64()) for n in numbers)]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def names_of(curves: Sequence[Curve]) -> list[str]:
    """List the strategies in the config's order."""
    return list(dict.fromkeys(curve.strategy for curve in curves))


def matrix_of(curves: Sequence[Curve]) -> Matrix:
    """Return accuracies, (seeds x budgets, strategies).

    The first round is left out, since it is the same for all.
    """
    seeds = list(dict.fromkeys(curve.seed for curve in curves))
    found = {(curve.strategy, curve.seed): curve.accuracy[1:] for curve in curves}
    return np.asarray([np.concatenate([found[name, seed] for seed in seeds]) for name in names_of(curves)]).T


def means_of(mine: Sequence[Curve]) -> list[float]:
    """Return the mean accuracy of a strategy's curves in each round."""
    return [spread([curve.accuracy[i] for curve in mine])[0] for i in range(len(mine[0].rounds))]
