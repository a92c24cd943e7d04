"""The report of a study: one self-contained HTML file from blocks.

Equal blocks make equal bytes. All text is escaped, and the page forbids itself scripts and the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.images.thumbnail import png_uri
from pipeline.report.blocks import Block
from pipeline.report.html import fill
from pipeline.report.plots import THEMES, png

_WIDTH = 5.0  # inches: text stays readable on a phone


def render(title: str, kind: str, *, facts: Mapping[str, str], blocks: Sequence[Block]) -> str:
    """Write the report as one HTML page without scripts or network."""
    drawn = [
        [{theme.name: png_uri(png(figure.draw, theme, (_WIDTH, figure.height))) for theme in THEMES}
         | {"alt": figure.alt, "height": round(220 * figure.height)} for figure in block.figures]
        for block in blocks
    ]  # fmt: skip
    values = {
        "title": title,
        "kind": kind,
        "facts": facts,
        "blocks": list(zip(blocks, drawn, strict=True)),
        "width": round(220 * _WIDTH),
    }
    return fill("study.html.j2", values, {})
