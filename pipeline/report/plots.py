"""The plots of a report as PNG files.

Equal views make equal bytes. Matplotlib is used without its global state.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.report.round_view import TOP_CLASSES, ReportView, is_number, total

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plots(view: ReportView) -> dict[str, bytes]:
    """Draw learning_curve.png, scores.png and label_balance.png in light colours."""
    balance = png(lambda axes, theme: _label_balance(axes, theme, view), LIGHT)
    return {**draw_all(view, LIGHT), "label_balance.png": balance}


@dataclass(frozen=True)
class Theme:
    """Colours by their purpose."""

    name: str
    paper: str
    ink: str
    muted: str
    line: str
    accent: str
    strange: str
    groups: tuple[tuple[str, str], ...]

    def group(self, name: str) -> str:
        """Return the colour of a group of scores."""
        return dict(self.groups).get(name, self.accent)


LIGHT = Theme(
    "light",
    "#ffffff",
    "#1d1f22",
    "#666c73",
    "#e6e5e1",
    "#2f6299",
    "#b8500f",
    (("known", "#2f6299"), ("unknown", "#b8500f"), ("far", "#8a3b7c")),
)
DARK = Theme(
    "dark",
    "#1c1e21",
    "#e9e9e6",
    "#a0a6ac",
    "#33363b",
    "#82b4e6",
    "#f09a5e",
    (("known", "#82b4e6"), ("unknown", "#f09a5e"), ("far", "#d797c8")),
)
THEMES = (LIGHT, DARK)

_Draw = Callable[["Axes", Theme], None]


def draw_all(view: ReportView, theme: Theme) -> dict[str, bytes]:
    """Draw the plots of the page in the colours of a theme."""
    return {
        "learning_curve.png": png(lambda axes, theme: _learning_curve(axes, theme, view), theme),
        "scores.png": png(lambda axes, theme: _scores(axes, theme, view), theme),
    }


def png(draw: _Draw, theme: Theme, size: tuple[float, float] = (4.7, 3.1)) -> bytes:
    """Make a PNG with `draw`, `size` inches at 220 dots an inch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Figure = Figure(figsize=size, dpi=220, facecolor=theme.paper, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor(theme.paper)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.line)
    axes.tick_params(colors=theme.muted, length=0, labelsize=9.5, pad=5)
    axes.grid(axis="y", color=theme.line, linewidth=0.8)
    axes.set_axisbelow(True)
    draw(axes, theme)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=theme.muted, fontsize=9.5)
    buffer = io.BytesIO()
    canvas.print_png(buffer, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def _learning_curve(axes: Axes, theme: Theme, view: ReportView) -> None:
    curves = (
        (
            "test accuracy",
            [(line.labeled_total, line.test_accuracy) for line in view.rounds],
            theme.accent,
            "-",
        ),
        ("OOD AUROC", [(line.labeled_total, line.ood_auroc) for line in view.rounds], theme.strange, "--"),
    )
    drawn: list[float] = []
    for name, points, color, style in curves:
        known = [(x, 100 * y) for x, y in points if y is not None and is_number(y)]
        if not known:
            continue
        xs, ys = zip(*known, strict=True)
        axes.plot(xs, ys, style, color=color, linewidth=2, marker="o", markersize=5, label=name)
        drawn += ys
    if not drawn:
        _nothing_yet(axes, theme, "no test accuracy yet")
        return
    low, high = min(drawn), max(drawn)
    room = max(2.0, 0.15 * (high - low))
    axes.set_ylim(max(0.0, low - room), min(101.0, high + room))
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:.0f} %")
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axes.locator_params(axis="y", nbins=6)
    totals = sorted({line.labeled_total for line in view.rounds})
    if len(totals) <= 6:
        axes.set_xticks(totals)
    else:
        axes.locator_params(axis="x", nbins=6, integer=True)
    axes.margins(x=0.06)
    axes.set_xlabel("labeled images")
    legend(axes, theme)


def _scores(axes: Axes, theme: Theme, view: ReportView) -> None:
    histogram = view.histogram
    if histogram is None or not total(histogram):
        _nothing_yet(axes, theme, "no scores yet")
        return
    peaks = [max(row) for row in histogram.counts.values() if any(row)]
    for name, row in histogram.counts.items():
        if any(row):
            color = theme.group(name)
            axes.stairs(row, histogram.edges, fill=True, color=color, alpha=0.22, linewidth=0)
            axes.stairs(row, histogram.edges, color=color, linewidth=1.6, label=plain(name))
    if max(peaks) > 40 * min(peaks):
        axes.set_yscale("log")
        axes.set_ylim(0.7, 1.6 * max(peaks))
        axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}")
    if view.threshold is not None and is_number(view.threshold):
        axes.axvline(view.threshold, color=theme.ink, linewidth=1.2, linestyle=(0, (4, 3)))
        low, high = axes.get_xlim()
        right = view.threshold < low + 0.6 * (high - low)
        axes.annotate(
            f"threshold {view.threshold:.3g}",
            (view.threshold, 1.0),
            (5 if right else -5, -4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            ha="left" if right else "right",
            fontsize=9,
            color=theme.ink,
        )
    axes.margins(x=0.02)
    axes.set_xlabel(f"{plain(view.score)}, stranger to the right")
    axes.set_ylabel("images")
    legend(axes, theme)


def _label_balance(axes: Axes, theme: Theme, view: ReportView) -> None:
    ordered = sorted(view.labels.items(), key=lambda item: (-item[1], item[0]))
    if not ordered:
        _nothing_yet(axes, theme, "no labels yet")
        return
    shown = ordered[:TOP_CLASSES]
    places = range(len(shown))
    axes.barh(places, [count for _, count in shown], color=theme.accent, height=0.72)
    axes.set_yticks(places, [plain(name) for name, _ in shown], fontsize=9.5 if len(shown) <= 12 else 6.5)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=theme.line, linewidth=0.8)
    axes.locator_params(axis="x", nbins=6, integer=True)
    more = f" (the first {TOP_CLASSES} of {len(ordered):,} classes)" if len(ordered) > TOP_CLASSES else ""
    axes.set_xlabel(f"labeled images a class{more}")


def _nothing_yet(axes: Axes, theme: Theme, text: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=theme.muted)


def legend(axes: Axes, theme: Theme, columns: int = 4) -> None:
    """Write the names of the curves above the plot."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
        frameon=False,
        fontsize=9.5,
        labelcolor=theme.ink,
        borderaxespad=0,
        handlelength=1.6,
        columnspacing=1.6,
    )


def plain(name: str, longest: int = 22) -> str:
    """Return a name that Matplotlib can draw.

    It holds no mathematics, and a box for each character that the font lacks.
    """
    from matplotlib import font_manager, get_data_path

    font = font_manager.get_font(str(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf")))
    drawable = "".join(
        c if c.isprintable() and font.get_char_index(ord(c)) else "\u25af" for c in name[:longest]
    )
    return (drawable + ("…" if len(name) > longest else "")).replace("$", r"\$")
