"""The blocks of a page: pictures and tables under a heading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pipeline.report.plots import Theme


@dataclass(frozen=True)
class Figure:
    """A picture: `draw` paints it in a theme's colours, `alt` describes it."""

    draw: Callable[[Axes, Theme], None]
    alt: str
    height: float = 3.2  # inches, of 5 across


@dataclass(frozen=True)
class Table:
    """Rows of text; `best` marks cells by (row, column).

    The first column is a name.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class Block:
    """A section of the report; `how` explains its pictures and tables."""

    heading: str
    how: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
