"""The report of a study: one self-contained HTML file from blocks of pictures and tables, whatever the study.

Equal blocks give equal bytes. All text is escaped, and the page forbids itself scripts and the network.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.report.blocks import Block
from pipeline.report.plots import THEMES, png

_WIDTH = 5.0  # inches: text stays readable on a phone
_UNSAFE = re.compile(
    r"[\ud800-\udfff\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def render(title: str, kind: str, facts: Mapping[str, str], blocks: Sequence[Block]) -> str:
    """The report as one HTML page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
    )
    drawn = [
        [{theme.name: _data_uri(png(figure.draw, theme, (_WIDTH, figure.height))) for theme in THEMES}
         | {"alt": figure.alt, "height": round(220 * figure.height)} for figure in block.figures]
        for block in blocks
    ]  # fmt: skip
    return environment.get_template("study.html.j2").render(
        title=title,
        kind=kind,
        facts=facts,
        blocks=list(zip(blocks, drawn, strict=True)),
        width=round(220 * _WIDTH),
    )


def _clean(value: Any) -> Any:
    """Text with a visible sign for each lone surrogate, control character and change of direction."""
    return _UNSAFE.sub("\ufffd", value) if type(value) is str else value


def _data_uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()
