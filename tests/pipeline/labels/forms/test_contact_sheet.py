"""The page of thumbnails beside a table of questions."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from pipeline.labels.forms.contact_sheet import anchor, contact_sheet

HOSTILE = '"><script>alert(1)</script>&'


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page(rows: list[dict[str, Any]], thumbnails: dict[str, str]) -> _Page:
    found = _Page()
    found.feed(contact_sheet(rows, thumbnails, HOSTILE).decode())
    return found


def test_every_question_has_its_picture_and_its_id() -> None:
    rows = [{"rank": i, "id": name, "predicted": "cat", "reason": "why"} for i, name in enumerate("ab")]
    found = page(rows, {"a": "data:image/png;base64,AAAA"})
    figures = [attrs["id"] for tag, attrs in found.tags if tag == "figure"]
    assert figures == [anchor(row) for row in rows] == ["q0", "q1"]
    assert [attrs["src"] for tag, attrs in found.tags if tag == "img"] == ["data:image/png;base64,AAAA"]
    assert found.text.count("no picture") == 1
    assert "0: a" in found.text and "predicted cat" in found.text


def test_no_text_is_taken_for_a_tag_and_nothing_is_fetched() -> None:
    row = {"rank": 0, "id": HOSTILE + "\x1b[2J\u202e", "predicted": HOSTILE, "reason": HOSTILE}
    found = page([row], {})
    assert {tag for tag, _ in found.tags}.isdisjoint({"script", "link", "iframe"})
    assert found.text.count("<script>alert(1)</script>") == 5
    assert "\x1b" not in found.text and "\u202e" not in found.text
    policy = next(attrs["content"] for tag, attrs in found.tags if "http-equiv" in attrs)
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;")
