"""The round report: hostile text, missing values, equal bytes, a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline.report.plots import plots
from pipeline.report.round_page import CARDS, render
from pipeline.report.round_view import QueryCard, ReportView, RoundLine
from tests.support.browser import Browser, opened
from tests.support.report_views import full_view, hostile_view


class Page(HTMLParser):
    """Tags, their attributes, and the text a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def sources(self) -> list[str]:
        return [a[k] or "" for _, a in self.tags for k in ("src", "srcset", "href", "action") if k in a]


# ------------------------------------------------------------------------------------------------- the page


def test_everything_worth_knowing_is_on_the_page() -> None:
    text = " ".join(Page(render(full_view())).text.split())
    for said in (
        "quickstart",
        "Round 001",
        "88.0 %",
        "+7.0 points since the round before; 3 test images unreadable, not counted",
        "97 images of known classes were counted",
        "test-00012",
        "file:///data/test.parquet",
        "truncated PNG",
        "And 2 more; evaluation.json names the first 1,000.",
        "of 1,523 listed, 12 quarantined",
        "digits-00007",
        "uncertain",
        "answer: out-of-world",
        "image file is truncated",
        "Other answers: 9 unknown-class.",
        "1 min 14 s",
        "156 /s",
        "r_avg 0.55 with these slopes, 0.59 with the default ones",
        "query.size: 30 -> 40",
    ):
        assert said in text, said


def test_text_from_data_never_becomes_markup() -> None:
    html = render(hostile_view())
    page = Page(html)
    html.encode("utf-8")  # a lone surrogate would fail here
    assert not {tag for tag, _ in page.tags} & {"script", "iframe", "object", "link", "a", "form"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "<script>window.pwned=1" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "\u202e" not in html


def test_the_page_asks_for_nothing_outside_itself() -> None:
    for view in (full_view(), hostile_view()):
        page = Page(render(view))
        assert page.sources()
        assert all(source.startswith("data:image/png;base64,") for source in page.sources())
        policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
        assert policy is not None and policy.startswith(
            "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
        )


@pytest.mark.parametrize(
    "view", [full_view(), hostile_view(), ReportView("empty", 0)], ids=["full", "hostile", "none"]
)
def test_equal_views_give_equal_bytes(view: ReportView) -> None:
    assert render(view) == render(view)
    assert plots(view) == plots(view)


def test_a_test_set_that_is_whole_is_not_spoken_of() -> None:
    for count in (0, None):
        metrics = {**full_view().metrics, "test_unreadable": count}
        text = Page(render(replace(full_view(), metrics=metrics, test_unreadable=()))).text
        assert "unreadable" not in text
        assert "left out" not in text


def test_what_was_not_measured_is_a_dash() -> None:
    nothing = dict.fromkeys(
        (
            "test_accuracy",
            "test_images",
            "test_unreadable",
            "r_avg",
            "listed",
            "scored",
            "seconds",
            "images_per_s",
            "ood_auroc",
        )
    )
    for metrics in ({}, nothing, {"test_accuracy": float("nan"), "seconds": {"train": None}}):
        text = Page(render(ReportView("empty", 0, rounds=(RoundLine(0, 0),), metrics=metrics))).text
        assert "–" in text
        assert "nan" not in text.lower()
        assert "None" not in text


def test_long_lists_are_cut_and_say_so() -> None:
    view = replace(
        full_view(),
        labels={f"class {i}": 5000 - i for i in range(4000)},
        query=tuple(QueryCard(i, f"id-{i}", 1.0, "cat", "uncertain") for i in range(CARDS + 30)),
        quarantine=tuple(("decode", f"reason {i}", i) for i in range(60)),
        rounds=tuple(RoundLine(i, 10 * i, 0.5 + i / 100) for i in range(30)),
        changes=tuple((i, f"query.size: {i} -> {i + 1}") for i in range(30)),
        metrics={**full_view().metrics, "test_unreadable": 5000},
        test_unreadable=tuple((f"test-{i:05d}", "u", "r") for i in range(1000)),
    )
    html = render(view)
    text = " ".join(Page(html).text.split())
    assert "And 3,976 more classes with 1,001 to 4,976 images each." in text
    assert "And 30 more in query.parquet." in text
    assert "And 20 rarer reasons." in text
    assert "The last 12 of 30 rounds" in text
    assert "The last 24 of 30 changes." in text
    assert "query.size: 5 -> 6" not in text
    assert "And 4,960 more; evaluation.json names the first 1,000." in text
    assert "test-00039" in text and "test-00040" not in text
    assert len(html) < 1_000_000


# --------------------------------------------------------------------------------------------- a real browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with opened(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
@pytest.mark.parametrize("name", ["full", "hostile"])
def test_a_browser_shows_the_page(
    browser: Browser, tmp_path: Path, name: str, width: int, scheme: str
) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(full_view() if name == "full" else hostile_view()), encoding="utf-8")
    browser.show(page, width, scheme)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert (
        browser.ask(
            "document.images.length > 1 && [...document.images].every(i => i.complete && i.naturalWidth > 0)"
        )
        is True
    )
    assert browser.ask("typeof window.pwned") == "undefined"
    assert browser.ask("document.scripts.length") == 0
    picture = "document.querySelector('picture')"
    dark = browser.ask(
        f"{picture}.querySelector('img').currentSrc === {picture}.querySelector('source').srcset"
    )
    assert dark is (scheme == "dark")
    assert all(url == page.as_uri() or url.startswith("data:image/png") for url in browser.asked_for())
    assert browser.complaints() == []
