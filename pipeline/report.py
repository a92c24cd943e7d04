"""The report of a round: one self-contained HTML file, and the plots as PNG files for MLflow.

`render` and `plots` take a `ReportView` and nothing else: equal views give equal bytes. All text of a view is
taken to be hostile; it is escaped, and the page forbids itself scripts and the network.
"""

from __future__ import annotations

import base64
import io
import math
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GALLERY = 120  # cards shown; a longer query says how many more there are
TOP_CLASSES = 24
TOP_REASONS = 40


@dataclass(frozen=True)
class RoundLine:
    """One round of the learning curve."""

    index: int
    labeled_total: int
    test_accuracy: float | None = None
    r_avg: float | None = None
    ood_auroc: float | None = None
    ood_fpr95: float | None = None


@dataclass(frozen=True)
class Histogram:
    """Counts between `edges`, one row a group: `pool`, or `known`, `unknown` and `far` where truth exists."""

    edges: tuple[float, ...]
    counts: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class QueryCard:
    """One image that was asked about; `answer` once somebody has answered, `thumbnail` as PNG."""

    rank: int
    id: str
    score: float | None
    predicted: str | None
    reason: str
    answer: str | None = None
    thumbnail: bytes | None = None


@dataclass(frozen=True)
class ReportView:
    """All that a report shows. `metrics` is the round's metrics.json; what it lacks is shown as a dash."""

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


def render(view: ReportView) -> str:
    """The report as one HTML page that needs no network and no scripts."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
    )
    environment.filters |= {
        "percent": _percent,
        "number": _number,
        "count": _count,
        "duration": _duration,
        "png": _data_uri,
    }
    ordered = sorted(view.labels.items(), key=lambda item: (-item[1], item[0]))
    seconds: Mapping[str, float] = view.metrics.get("seconds") or {}
    return environment.get_template("report.html.j2").render(
        view=view,
        metrics=view.metrics,
        gain=_gain(view),
        drawn={theme.name: _draw_all(view, theme) for theme in THEMES},
        has_curve=any(_known(line.test_accuracy) for line in view.rounds),
        has_scores=_total(view.histogram) > 0,
        cards=view.query[:GALLERY],
        classes=ordered[:TOP_CLASSES],
        classes_more=ordered[TOP_CLASSES:],
        most_labels=max(view.labels.values(), default=0),
        reasons=sorted(view.quarantine, key=lambda row: (-row[2], row[0], row[1]))[:TOP_REASONS],
        seconds=seconds,
        most_seconds=max((s for s in seconds.values() if _known(s)), default=0.0),
        images_per_s=view.metrics.get("images_per_s") or {},
    )


def plots(view: ReportView) -> dict[str, bytes]:
    """The plots in their light colours: learning_curve.png, scores.png, label_balance.png."""
    balance = _png(lambda axes, theme: _label_balance(axes, theme, view), LIGHT)
    return {**_draw_all(view, LIGHT), "label_balance.png": balance}


def thumbnail(image: bytes, side: int = 96, max_pixels: int = 50_000_000) -> bytes | None:
    """A small PNG of an image file.

    Args:
        image: the file's bytes, from anywhere.
        side: the longest side of the thumbnail in pixels; a smaller image is enlarged by a whole factor.
        max_pixels: an image with more is not decoded.

    Returns:
        PNG bytes, or None for what can't be decoded. Never raises on bad data.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(image)) as opened:
                if opened.width * opened.height > max_pixels:
                    return None
                opened.draft("RGB", (2 * side, 2 * side))
                small = opened.convert("RGB")
            factor = side // max(small.size)
            if factor >= 1:
                small = small.resize((small.width * factor, small.height * factor), Image.Resampling.NEAREST)
            small.thumbnail((side, side))
            small.info = {}  # no profile or comment of the original travels on
            buffer = io.BytesIO()
            small.save(buffer, "PNG")
            return buffer.getvalue()
    except Exception:  # noqa: BLE001 - decoders meet hostile bytes and raise whatever they like
        return None


# -------------------------------------------------------------------------------- values as people read them


def _known(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _clean(value: Any) -> Any:
    """Text with a visible sign for each lone surrogate, control character and change of direction."""
    return _UNSAFE.sub("\ufffd", value) if type(value) is str else value


_UNSAFE = re.compile(
    r"[\ud800-\udfff\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def _percent(value: float | None) -> str:
    return f"{100 * value:.1f} %" if value is not None and _known(value) else "–"


def _number(value: float | None, digits: int = 3) -> str:
    return f"{value:.{digits}g}" if value is not None and _known(value) else "–"


def _count(value: int | None) -> str:
    return f"{value:,}" if value is not None and _known(value) else "–"


def _duration(seconds: float | None) -> str:
    if seconds is None or not _known(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return (
        f"{minutes // 60} h {minutes % 60:02d} min"
        if minutes >= 60
        else f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    )


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _gain(view: ReportView) -> float | None:
    """How far test accuracy moved since the round before, in points."""
    known = [line for line in view.rounds if line.test_accuracy is not None and _known(line.test_accuracy)]
    now = [line.test_accuracy for line in known if line.index == view.index]
    before = [line.test_accuracy for line in known if line.index < view.index]
    return 100 * (now[0] - before[-1]) if now and before else None  # type: ignore[operator]


def _total(histogram: Histogram | None) -> int:
    return sum(sum(row) for row in histogram.counts.values()) if histogram else 0


# ------------------------------------------------------------------------------------------------------ plots


@dataclass(frozen=True)
class _Theme:
    name: str
    paper: str
    ink: str
    muted: str
    line: str
    accent: str
    strange: str
    groups: tuple[tuple[str, str], ...]

    def group(self, name: str) -> str:
        return dict(self.groups).get(name, self.accent)


LIGHT = _Theme(
    "light",
    "#ffffff",
    "#1d1f22",
    "#666c73",
    "#e6e5e1",
    "#2f6299",
    "#b8500f",
    (("known", "#2f6299"), ("unknown", "#b8500f"), ("far", "#8a3b7c")),
)
DARK = _Theme(
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

_Draw = Callable[["Axes", _Theme], None]


def _draw_all(view: ReportView, theme: _Theme) -> dict[str, bytes]:
    return {
        "learning_curve.png": _png(lambda axes, theme: _learning_curve(axes, theme, view), theme),
        "scores.png": _png(lambda axes, theme: _scores(axes, theme, view), theme),
    }


def _png(draw: _Draw, theme: _Theme) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Figure = Figure(figsize=(4.7, 3.1), dpi=220, facecolor=theme.paper, layout="constrained")
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


def _learning_curve(axes: Axes, theme: _Theme, view: ReportView) -> None:
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
        known = [(x, 100 * y) for x, y in points if y is not None and _known(y)]
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
    _legend(axes, theme)


def _scores(axes: Axes, theme: _Theme, view: ReportView) -> None:
    histogram = view.histogram
    if histogram is None or not _total(histogram):
        _nothing_yet(axes, theme, "no scores yet")
        return
    peaks = [max(row) for row in histogram.counts.values() if any(row)]
    for name, row in histogram.counts.items():
        if any(row):
            color = theme.group(name)
            axes.stairs(row, histogram.edges, fill=True, color=color, alpha=0.22, linewidth=0)
            axes.stairs(row, histogram.edges, color=color, linewidth=1.6, label=_plain(name))
    if max(peaks) > 40 * min(peaks):
        axes.set_yscale("log")
        axes.set_ylim(0.7, 1.6 * max(peaks))
        axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}")
    if view.threshold is not None and _known(view.threshold):
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
    axes.set_xlabel(f"{_plain(view.score)}, stranger to the right")
    axes.set_ylabel("images")
    _legend(axes, theme)


def _label_balance(axes: Axes, theme: _Theme, view: ReportView) -> None:
    ordered = sorted(view.labels.items(), key=lambda item: (-item[1], item[0]))
    if not ordered:
        _nothing_yet(axes, theme, "no labels yet")
        return
    shown = ordered[:TOP_CLASSES]
    places = range(len(shown))
    axes.barh(places, [count for _, count in shown], color=theme.accent, height=0.72)
    axes.set_yticks(places, [_plain(name) for name, _ in shown], fontsize=9.5 if len(shown) <= 12 else 6.5)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=theme.line, linewidth=0.8)
    axes.locator_params(axis="x", nbins=6, integer=True)
    more = f" (the first {TOP_CLASSES} of {len(ordered):,} classes)" if len(ordered) > TOP_CLASSES else ""
    axes.set_xlabel(f"labeled images a class{more}")


def _nothing_yet(axes: Axes, theme: _Theme, text: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=theme.muted)


def _legend(axes: Axes, theme: _Theme) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=4,
        frameon=False,
        fontsize=9.5,
        labelcolor=theme.ink,
        borderaxespad=0,
        handlelength=1.6,
        columnspacing=1.6,
    )


def _plain(name: str, longest: int = 22) -> str:
    """A name that Matplotlib can draw: no mathematics, and a box for what its font lacks."""
    from matplotlib import font_manager, get_data_path

    font = font_manager.get_font(str(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf")))
    drawable = "".join(
        c if c.isprintable() and font.get_char_index(ord(c)) else "\u25af" for c in name[:longest]
    )
    return (drawable + ("…" if len(name) > longest else "")).replace("$", r"\$")
