"""The frame of both pages: what it escapes, what it shows in place of what can't be seen, what it forbids."""

from __future__ import annotations

import jinja2
import pytest

from pipeline.images.thumbnail import png_uri
from pipeline.report.html import fill, visible

STUDY = {"title": "t", "kind": "ood", "facts": {}, "blocks": [], "width": 9}


@pytest.mark.parametrize(
    "c", ["\ud800", "\x00", "\x1b", "\x7f", "\x85", "\u061c", "\u200f", "\u202e", "\u2066"]
)
def test_characters_that_nobody_sees_become_visible(c: str) -> None:
    assert visible(f"a{c}b") == "a\ufffdb"


@pytest.mark.parametrize("value", ["plain\ttext\n", "\u732b \U0001f600 é", 5, None, b"\x00"])
def test_all_else_stays(value: object) -> None:
    assert visible(value) is value or visible(value) == value


def test_text_is_escaped_and_the_page_forbids_itself_scripts_and_the_network() -> None:
    page = fill("study.html.j2", STUDY | {"facts": {"<b>": "\u202e<script>"}}, {})
    assert "&lt;b&gt;" in page
    assert "\ufffd&lt;script&gt;" in page
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        fill("study.html.j2", {name: value for name, value in STUDY.items() if name != "facts"}, {})


def test_a_picture_travels_inside_the_page() -> None:
    assert png_uri(b"\x89PNG") == "data:image/png;base64,iVBORw=="
