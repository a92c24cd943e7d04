"""Learning curves as the report shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.report.blocks import Block, Figure, Table
from pipeline.report.plots import legend, plain
from pipeline.studies.active.config import ActiveStudy
from pipeline.studies.active.statistics import area, bands, budget_for, friedman_nemenyi, wilcoxon_holm, wins
from pipeline.studies.outcome import marked, percent, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pipeline.report.plots import Theme


from pipeline.studies.active.curves import Curve, matrix_of, means_of, names_of


def blocks(curves: Sequence[Curve], seconds: pa.Table, config: ActiveStudy) -> list[Block]:
    """Return the blocks of the report."""
    found = [_learning(curves, config), _by_budget(curves), _differences(curves)]
    if config.open_set is not None:
        found.append(_open(curves))
    if any("r_avg" in line for curve in curves for line in curve.rounds):
        found.append(_ratios(curves))
    found.append(_cost(curves, seconds))
    return found


def _learning(curves: Sequence[Curve], config: ActiveStudy) -> Block:
    names = names_of(curves)
    order = sorted(names, key=lambda name: -spread(_areas(curves, name))[0])
    rows, areas, finals = [], [], []
    for name in order:
        mine = [curve for curve in curves if curve.strategy == name]
        areas.append(spread(_areas(curves, name)))
        finals.append(spread([curve.accuracy[-1] for curve in mine]))
        reached = [budget_for(mine[0].budgets, means_of(mine), target) for target in config.targets]
        to_target = ["-" if budget is None else f"{budget:,.0f}" for budget in reached]
        rows.append((name, percent(*areas[-1]), percent(*finals[-1]), *to_target))
    best = marked([[a for a, _ in areas], [f for f, _ in finals]], first=1, lowest=[False, False])
    heads = ("strategy", "area under curve", "last round", *(f"labels to {t:.0%}" for t in config.targets))
    seeds = len({curve.seed for curve in curves})
    kind = "Mean accuracy over all classes, unknown ones counting 0" if config.open_set else "Test accuracy"
    return Block(
        "Learning curves",
        f"{kind} in percent{f' over {seeds} seeds, with standard deviations' if seeds > 1 else ''}. Bands are 95 % "
        "confidence intervals without what all strategies of a seed have in common (Cousineau, Morey). The area is the "
        "mean height of the curve. A target counts as reached where the mean curve crosses it.",
        (
            Figure(
                lambda axes, theme: _draw(axes, theme, curves, what="accuracy", percent=True),
                "Learning curves",
                4.2,
            ),
        ),
        (Table(heads, tuple(rows), best),),
    )


def _areas(curves: Sequence[Curve], name: str) -> list[float]:
    return [area(curve.budgets, curve.accuracy) for curve in curves if curve.strategy == name]


def _by_budget(curves: Sequence[Curve]) -> Block:
    names = names_of(curves)
    budgets = curves[0].budgets
    columns = [
        [spread([curve.accuracy[i] for curve in curves if curve.strategy == name]) for name in names]
        for i in range(len(budgets))
    ]
    rows = tuple((name, *(percent(*column[i]) for column in columns)) for i, name in enumerate(names))
    best = marked([[m for m, _ in column] for column in columns[1:]], first=2, lowest=[False] * len(columns))
    return Block(
        "Accuracy by number of labels",
        "In percent. The first column is the same for all: they start from one network.",
        (),
        (Table(("strategy", *(f"{budget:,}" for budget in budgets)), rows, best),),
    )


def _differences(curves: Sequence[Curve]) -> Block:
    names, matrix = names_of(curves), matrix_of(curves)
    won, ranking, p = wins(matrix), friedman_nemenyi(matrix), wilcoxon_holm(matrix)
    win_rows = tuple(
        (name, *("" if i == j else f"{100 * won[i, j]:.0f}" for j in range(len(names))))
        for i, name in enumerate(names)
    )
    p_rows = tuple(
        (name, *("" if i == j else _p(p[min(i, j), max(i, j)]) for j in range(len(names))))
        for i, name in enumerate(names)
    )
    how = (
        f"Over {len(matrix)} blocks, that is budgets of a seed. First table: the share of blocks, in percent, in which "
        "the strategy of the row is above that of the column. Second: two-sided Wilcoxon signed-rank tests of all "
        "pairs, adjusted by Holm. Budgets of one seed are not independent, so take the p-values as ranks of evidence."
    )
    found = [Table(("wins, %", *names), win_rows), Table(("p, Wilcoxon and Holm", *names), p_rows)]
    if ranking is not None:
        how += (
            f" Friedman's test that all are equal: p = {_p(ranking.p)}. By Nemenyi's test, mean ranks that are more "
            f"than {ranking.critical:.2f} apart differ at the 5 % level."
        )
        order = sorted(range(len(names)), key=ranking.ranks.__getitem__)
        found.append(
            Table(("strategy", "mean rank"), tuple((names[i], f"{ranking.ranks[i]:.2f}") for i in order))
        )
    return Block("Are the differences real?", how, (), tuple(found))


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _open(curves: Sequence[Curve]) -> Block:
    names = names_of(curves)
    rows = []
    for name in names:
        mine = [curve for curve in curves if curve.strategy == name]
        precision = spread([spread([line["precision"] for line in curve.rounds[:-1]])[0] for curve in mine])
        recall = spread([curve.rounds[-2]["recall"] for curve in mine])
        classes = spread([float(curve.rounds[-1]["classes"]) for curve in mine])
        rows.append((name, percent(*precision), percent(*recall), f"{classes[0]:.1f}"))
    figures = [
        Figure(
            lambda axes, theme: _draw(axes, theme, curves, what="precision", percent=True, last=False),
            "Precision of queries by number of labels",
        ),
        Figure(
            lambda axes, theme: _draw(axes, theme, curves, what="classes", percent=False),
            "Known classes by number of labels",
        ),
    ]
    return Block(
        "What was asked about",
        "Precision is the share of a query that is of any class, known or not yet; recall the share of all such images "
        "that are labeled in the end; classes those that are known in the last round. First picture: precision of each "
        "query. Second: classes known.",
        tuple(figures),
        (Table(("strategy", "precision, %", "recall, %", "classes"), tuple(rows)),),
    )


def _ratios(curves: Sequence[Curve]) -> Block:
    mine = [curve for curve in curves if all("r_avg" in line for line in curve.rounds[:-1])]
    names, budgets = names_of(mine), mine[0].budgets[:-1]
    rows = tuple(
        (
            name,
            *(
                f"{spread([c.rounds[i]['r_avg'] for c in mine if c.strategy == name])[0]:.3f}"
                for i in range(len(budgets))
            ),
        )
        for name in names
    )
    return Block(
        "r_avg",
        "The leave-one-out ratio of inner to outer distance on the labeled set, before each query. Where it is 1 or "
        "more, SISOMe is the energy alone.",
        (),
        (Table(("strategy", *(f"{budget:,}" for budget in budgets)), rows),),
    )


def _cost(curves: Sequence[Curve], seconds: pa.Table) -> Block:
    found: dict[tuple[str, str], list[float]] = {}
    for row in seconds.to_pylist():
        name = row["cell"].removeprefix("chains/").rpartition("/")[0]
        found.setdefault((name, row["part"].partition("/")[0]), []).append(row["seconds"])
    rows = []
    for name in names_of(curves):
        parts = [found.get((name, part), [math.nan]) for part in ("prepare", "select", "train")]
        rows.append((name, *(f"{spread(part)[0]:.2f}" for part in parts)))
    return Block(
        "Seconds of a query",
        "Means over rounds and seeds, on the threads of a cell while others worked beside it. Prepare: what the "
        "strategy needs of the pool, such as features and scores. Select: the choice itself. Train: for comparison.",
        (),
        (Table(("strategy", "prepare, s", "select, s", "train, s"), tuple(rows)),),
    )


# ------------------------------------------------------------------------------------------------ pictures

_LIGHT = (
    "#2f6299",
    "#b8500f",
    "#3d7a4a",
    "#8a3b7c",
    "#9c7a10",
    "#3a8f96",
    "#a8324a",
    "#5f6670",
    "#6a55b0",
    "#7d5a3c",
)
_DARK = (
    "#82b4e6",
    "#f09a5e",
    "#86c894",
    "#d797c8",
    "#e0c055",
    "#7fd0d6",
    "#f08a9c",
    "#b4bac2",
    "#b3a4f0",
    "#cfa883",
)
_MARKS = "osD^vP<X>*"


def _draw(
    axes: Axes, theme: Theme, curves: Sequence[Curve], *, what: str, percent: bool, last: bool = True
) -> None:
    colors = _LIGHT if theme.name == "light" else _DARK
    scale = 100.0 if percent else 1.0
    names, xs = names_of(curves), curves[0].budgets[: None if last else -1]
    seeds = list(dict.fromkeys(curve.seed for curve in curves))
    found = {
        (c.seed, c.strategy): [scale * float(line[what]) for line in c.rounds[: len(xs)]] for c in curves
    }
    means, widths = bands(np.asarray([[found[seed, name] for name in names] for seed in seeds]))
    for number, name in enumerate(names):
        color, mark = colors[number % len(colors)], _MARKS[number % len(_MARKS)]
        axes.plot(
            xs,
            means[number],
            color=color,
            marker=mark,
            markersize=4,
            linewidth=1.5,
            linestyle="-" if number < len(colors) else "--",
            label=plain(name),
        )
        low, high = means[number] - widths[number], means[number] + widths[number]
        axes.fill_between(xs, low, high, color=color, alpha=0.10, linewidth=0)
    axes.set_xticks(xs)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    if len(xs) > 8:
        axes.locator_params(axis="x", nbins=8)
    if percent:
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:.0f} %")
    room = 0.12 * (float(means.max() - means.min()) + 0.01)
    axes.set_ylim(means.min() - room, means.max() + room)  # wide bands of few seeds would squeeze the curves
    axes.set_xlabel("labeled images")
    legend(axes, theme, 3)
