"""The report of a round: one self-contained HTML file.

`render` takes a `ReportView` and nothing else: equal views make equal bytes. All text of a view is taken to be
hostile; it is escaped, and the page forbids itself scripts and the network.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.report.html import fill
from pipeline.report.plots import THEMES, draw_all
from pipeline.report.round_view import TOP_CLASSES, ReportView, is_number, total

CARDS = 120  # shown; a longer query says how many more there are
TOP_REASONS = 40
TOP_UNREADABLE = 40
LAST_CHANGES = 24


def render(view: ReportView) -> str:
    """Write the report as one HTML page without scripts or network."""
    ordered = sorted(view.labels.items(), key=lambda item: (-item[1], item[0]))
    seconds: Mapping[str, float] = view.metrics.get("seconds") or {}
    values = {
        "view": view,
        "metrics": view.metrics,
        "gain": _gain(view),
        "drawn": {theme.name: draw_all(view, theme) for theme in THEMES},
        "has_curve": any(is_number(line.test_accuracy) for line in view.rounds),
        "changes": view.changes[-LAST_CHANGES:],
        "has_scores": total(view.histogram) > 0,
        "cards": view.query[:CARDS],
        "classes": ordered[:TOP_CLASSES],
        "classes_more": ordered[TOP_CLASSES:],
        "most_labels": max(view.labels.values(), default=0),
        "reasons": sorted(view.quarantine, key=lambda row: (-row[2], row[0], row[1]))[:TOP_REASONS],
        "unreadable": view.test_unreadable[:TOP_UNREADABLE],
        "seconds": seconds,
        "most_seconds": max((s for s in seconds.values() if is_number(s)), default=0.0),
        "images_per_s": view.metrics.get("images_per_s") or {},
    }
    filters = {"percent": _percent, "number": _number, "count": _count, "duration": _duration}
    return fill("round.html.j2", values, filters)


# -------------------------------------------------------------------------------- values as people read them


def _percent(value: float | None) -> str:
    return f"{100 * value:.1f} %" if value is not None and is_number(value) else "–"


def _number(value: float | None, digits: int = 3) -> str:
    return f"{value:.{digits}g}" if value is not None and is_number(value) else "–"


def _count(value: int | None) -> str:
    return f"{value:,}" if value is not None and is_number(value) else "–"


def _duration(seconds: float | None) -> str:
    if seconds is None or not is_number(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return (
        f"{minutes // 60} h {minutes % 60:02d} min"
        if minutes >= 60
        else f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    )


def _gain(view: ReportView) -> float | None:
    """Return the points of test accuracy won since the round before."""
    known = [line for line in view.rounds if line.test_accuracy is not None and is_number(line.test_accuracy)]
    now = [line.test_accuracy for line in known if line.index == view.index]
    before = [line.test_accuracy for line in known if line.index < view.index]
    return 100 * (now[0] - before[-1]) if now and before else None  # type: ignore[operator]
