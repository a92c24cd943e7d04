"""A page of thumbnails and ids beside a table of questions.

It needs no other file and no network, holds no script, and escapes all text.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipeline.errors import printable

_HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font: 14px system-ui, sans-serif; margin: 16px; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); gap: 12px; }}
figure {{ margin: 0; padding: 8px; border: 1px solid #999; }}
figure:target {{ border: 3px solid #06c; padding: 6px; }}
img {{ display: block; width: 100%; height: 200px; object-fit: contain; image-rendering: pixelated; }}
figcaption {{ overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>{title}</h1>
<main>
"""
_TAIL: Final = "</main>\n</body>\n</html>\n"


def anchor(row: Mapping[str, Any]) -> str:
    """Return the name of a question's place in the page."""
    return f"q{row['rank']}"


def contact_sheet(rows: Sequence[Mapping[str, Any]], thumbnails: Mapping[str, str], title: str) -> bytes:
    """Write questions as a page.

    Args:
        rows: with `rank`, `id`, `predicted` and `reason`.
        thumbnails: data URIs of PNG images by id; of a question without one, the page says so.
        title: of the page.
    """
    return "".join(
        [_HEAD.format(title=_text(title)), *(_card(row, thumbnails) for row in rows), _TAIL]
    ).encode()


def _card(row: Mapping[str, Any], thumbnails: Mapping[str, str]) -> str:
    picture = thumbnails.get(row["id"])
    shown = f'<img src="{_text(picture)}" alt="">' if picture else "<p>no picture</p>"
    said = f"{row['rank']}: <bdi>{_text(row['id'])}</bdi>"
    if row.get("predicted") is not None:
        said += f"<br>predicted <bdi>{_text(row['predicted'])}</bdi>"
    if row.get("reason") is not None:
        said += f"<br><bdi>{_text(row['reason'])}</bdi>"
    return f'<figure id="{anchor(row)}">{shown}<figcaption>{said}</figcaption></figure>\n'


def _text(value: Any) -> str:
    return html.escape(printable(str(value)), quote=True)
