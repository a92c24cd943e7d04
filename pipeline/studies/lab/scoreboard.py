"""Tables and pictures of how well methods detect unknown images.

Detectors and variants share them. The definitions are those of OpenOOD: unknown images are the positive class of AUROC
and FPR95 (the share of known images that are flagged where 95 % of the unknown are caught), higher scores are stranger.
AUPR comes in two forms: `aupr_out` with the unknown images positive, `aupr_in` with the known ones. The mean of a group
is over its sets, each with equal weight; mean and deviation are over networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from torch import Tensor

import sisom
from pipeline.report.blocks import Block, Figure, Table
from pipeline.report.plots import legend, plain
from pipeline.studies.outcome import marked, percent, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pipeline.report.plots import Theme

METRICS = ("auroc", "fpr95", "aupr_in", "aupr_out")
_LOWER_IS_BETTER = {"fpr95"}
_SHOWN = {"auroc": "AUROC", "fpr95": "FPR95", "aupr_in": "AUPR in", "aupr_out": "AUPR out"}


def measures(known: Tensor, unknown: Tensor) -> dict[str, float]:
    """Measure how well scores separate two kinds of images.

    Returns each of `METRICS`, in [0, 1].
    """
    return {
        "auroc": sisom.metrics.auroc(known, unknown),
        "fpr95": sisom.metrics.fpr_at_tpr(known, unknown),
        "aupr_in": sisom.metrics.aupr(-known, -unknown),
        "aupr_out": sisom.metrics.aupr(unknown, known),
    }


@dataclass(frozen=True)
class Line:
    """Measures of a method on a network, by `GROUP/SET`."""

    method: str
    network: str
    sets: Mapping[str, Mapping[str, float]]


def all_values(lines: Sequence[Line], what: str) -> pa.Table:
    """Return all measures, a row for each method, network and set.

    `what` is the name of the methods' column.
    """
    rows = [
        {what: line.method, "network": line.network, **_parts(role), **{m: values[m] for m in METRICS}}
        for line in lines
        for role, values in line.sets.items()
    ]
    return pa.Table.from_pylist(rows)


def summary(lines: Sequence[Line], what: str) -> pa.Table:
    """Return mean and deviation over networks of all measures.

    There is a row for each method and set, and one for the mean of each group (set `mean`). `what` is the name of the
    methods' column.
    """
    rows = []
    for method in _methods(lines):
        for role in _roles(lines):
            row: dict[str, object] = {what: method, **_parts(role)}
            for metric in METRICS:
                mean, deviation = spread(_over_networks(lines, method, role, metric=metric))
                row |= {metric: mean, f"{metric}_std": deviation}
            rows.append(row)
    types = {f"{metric}_std": pa.float64() for metric in METRICS}
    table = pa.Table.from_pylist(rows)
    for name, kind in types.items():  # without a second network the column would have no type
        table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
    return table


def blocks(lines: Sequence[Line], what: str) -> list[Block]:
    """Return the blocks of the report; `what` names the methods."""
    groups = _groups(lines)
    networks = len({line.network for line in lines})
    over = f"over {networks} networks" if networks > 1 else "one network"
    how = (
        f"In percent, {over}{', with the standard deviation' if networks > 1 else ''}. A group's value is the mean "
        "of its sets. Unknown images are positive: AUROC is the chance that an unknown image scores above a known one, "
        "FPR95 the share of known images flagged where 95 % of the unknown are caught."
    )
    order = sorted(
        _methods(lines),
        key=lambda method: -sum(_mean(lines, method, f"{group}/mean", metric="auroc") for group in groups),
    )
    main = _table(lines, what, order, wanted=[(f"{g}/mean", m) for m in ("auroc", "fpr95") for g in groups])
    sets = [role for role in _roles(lines) if not role.endswith("/mean")]
    by_set = _table(lines, what, order, wanted=[(role, "auroc") for role in sets], short=True)
    precision = _table(
        lines, what, order, wanted=[(f"{g}/mean", m) for m in ("aupr_in", "aupr_out") for g in groups]
    )
    figure = Figure(
        lambda axes, theme: _draw(axes, theme, lines, order=order, groups=groups),
        f"AUROC of each {what} on {' and '.join(groups)} sets",
        height=1.2 + 0.27 * min(len(order), _MOST_DRAWN),
    )
    found = [
        Block(f"Near and far, best {what} first", how, (figure,), (main,)),
        Block("AUROC by set", "In percent.", (), (by_set,)),
        Block(
            "Precision and recall",
            "Area under the curve in percent: with the known images positive (in), with the unknown ones (out). "
            "It depends on how many images of each kind there are.",
            (),
            (precision,),
        ),
    ]
    if 1 < networks <= 16:
        found.append(_by_network(lines, what, order, groups=groups))
    return found


def _by_network(lines: Sequence[Line], what: str, order: Sequence[str], *, groups: Sequence[str]) -> Block:
    names = list(dict.fromkeys(line.network for line in lines))
    value = {
        (line.method, line.network): [_group_mean(line, group, "auroc") for group in groups] for line in lines
    }
    rows = tuple(
        (method, *(" / ".join(percent(v) for v in value[method, name]) for name in names)) for method in order
    )
    how = f"AUROC in percent, {' / '.join(groups)}."
    return Block("Network by network", how, (), (Table((what, *names), rows),))


# ---------------------------------------------------------------------------------------------------- values


def _parts(role: str) -> dict[str, str]:
    group, _, name = role.partition("/")
    return {"group": group, "set": name}


def _methods(lines: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(line.method for line in lines))


def _groups(lines: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(role.partition("/")[0] for role in lines[0].sets))


def _roles(lines: Sequence[Line]) -> list[str]:
    """List every `GROUP/SET`, each group followed by its `GROUP/mean`."""
    found = []
    for group in _groups(lines):
        found += [role for role in lines[0].sets if role.startswith(f"{group}/")] + [f"{group}/mean"]
    return found


def _group_mean(line: Line, group: str, metric: str) -> float:
    values = [each[metric] for role, each in line.sets.items() if role.startswith(f"{group}/")]
    return spread(values)[0]


def _over_networks(lines: Sequence[Line], method: str, role: str, *, metric: str) -> list[float]:
    group, _, name = role.partition("/")
    return [
        _group_mean(line, group, metric) if name == "mean" else line.sets[role][metric]
        for line in lines
        if line.method == method
    ]


def _mean(lines: Sequence[Line], method: str, role: str, *, metric: str) -> float:
    return spread(_over_networks(lines, method, role, metric=metric))[0]


def _table(
    lines: Sequence[Line],
    what: str,
    order: Sequence[str],
    *,
    wanted: Sequence[tuple[str, str]],
    short: bool = False,
) -> Table:
    columns = [
        [spread(_over_networks(lines, method, role, metric=metric)) for method in order]
        for role, metric in wanted
    ]
    heads = [
        role.partition("/")[2] if short else f"{role.partition('/')[0]} {_SHOWN[metric]}"
        for role, metric in wanted
    ]
    rows = tuple((method, *(percent(*column[row]) for column in columns)) for row, method in enumerate(order))
    best = marked(
        [[mean for mean, _ in column] for column in columns],
        first=1,
        lowest=[metric in _LOWER_IS_BETTER for _, metric in wanted],
    )
    return Table((what, *heads), rows, best)


# --------------------------------------------------------------------------------------------------- picture

_MOST_DRAWN = 40


def _draw(
    axes: Axes, theme: Theme, lines: Sequence[Line], *, order: Sequence[str], groups: Sequence[str]
) -> None:
    shown = list(order[:_MOST_DRAWN])
    colors = [theme.accent, theme.strange]
    for number, group in enumerate(groups):
        found = [spread(_over_networks(lines, method, f"{group}/mean", metric="auroc")) for method in shown]
        places = [row + (number - (len(groups) - 1) / 2) * 0.3 for row in range(len(shown))]
        axes.errorbar(
            [100 * mean for mean, _ in found],
            places,
            xerr=[100 * (deviation or 0.0) for _, deviation in found],
            fmt="o" if number == 0 else "s",
            color=colors[number % 2],
            markersize=5,
            elinewidth=1.2,
            label=group,
        )
    axes.set_yticks(range(len(shown)), [plain(name, 34) for name in shown], fontsize=8.5)
    axes.invert_yaxis()
    axes.grid(axis="x", color=theme.line, linewidth=0.8)
    axes.set_xlabel("AUROC in percent")
    axes.margins(y=0.03)
    legend(axes, theme)
