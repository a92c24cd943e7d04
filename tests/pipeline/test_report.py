"""The report: hostile text, missing values, equal bytes; and what a real browser makes of it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, opened
from PIL import Image

from pipeline.images.thumbnail import thumbnail
from pipeline.report.plots import plots
from pipeline.report.round_page import CARDS, render
from pipeline.report.round_view import Histogram, QueryCard, ReportView, RoundLine

PLOTS = {"learning_curve.png", "scores.png", "label_balance.png"}
HOSTILE = "\"><script>window.pwned=1</script><img src=x onerror='window.pwned=1'>\u202e{{ 7 * 7 }}"


def png(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def full_view() -> ReportView:
    return ReportView(
        project="quickstart",
        index=1,
        rounds=(RoundLine(0, 80, 0.81, 0.62, 0.86, 0.41), RoundLine(1, 120, 0.88, 0.55, 0.91, 0.33)),
        metrics={
            "test_accuracy": 0.88,
            "r_avg": 0.55,
            "listed": 1523,
            "scored": 1511,
            "quarantined": 12,
            "labeled_total": 120,
            "query_size": 2,
            "ood_auroc": 0.91,
            "ood_fpr95": 0.33,
            "seconds": {"train": 74.2, "score": 9.7},
            "images_per_s": {"score": 155.8},
        },
        threshold=1.9,
        histogram=Histogram(
            (0.0, 1.0, 2.0, 3.0), {"known": (90, 40, 1), "unknown": (2, 20, 9), "far": (0, 0, 7)}
        ),
        query=(
            QueryCard(1, "digits-00007", 2.31, "3", "uncertain", "8", thumbnail(png(8, 8))),
            QueryCard(2, "digits-00003", 2.29, "5", "strangest", "out-of-world"),
        ),
        labels={"cat": 24, "dog": 3},
        other_answers={"unknown-class": 9},
        quarantine=(("decode", "not an image", 5), ("decode", "image file is truncated", 7)),
        slopes={"layer1": 1.0, "avgpool": 100.0},
        default_r_avg=0.59,
    )


def hostile_view() -> ReportView:
    text = HOSTILE + "x" * 20_000
    return ReportView(
        project=text,
        index=0,
        rounds=(RoundLine(0, 10, 0.5),),
        metrics={
            "test_accuracy": 0.5,
            "scored": 10**9,
            "seconds": {text: 4000.0},
            "images_per_s": {text: 1.0},
        },
        score=text,
        threshold=1.5,
        histogram=Histogram((0.0, 1.0, 2.0), {text: (100, 20), "$\\frac": (1, 0)}),
        query=tuple(QueryCard(i, text, None, text, text, text) for i in range(CARDS + 7)),
        labels={text: 1, "$x_{$": 2, "\u732b": 3, "\x00\ud800": 4},
        other_answers={text: 1},
        quarantine=((text, text, 1),),
        slopes={text: 1.0},
        slopes_note=text,
    )


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
        "+7.0 points since the round before",
        "of 1,523 listed, 12 quarantined",
        "digits-00007",
        "uncertain",
        "answer: out-of-world",
        "image file is truncated",
        "Other answers: 9 unknown-class.",
        "1 min 14 s",
        "156 /s",
        "r_avg 0.55 with these slopes, 0.59 with the default ones",
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


def test_what_was_not_measured_is_a_dash() -> None:
    nothing = dict.fromkeys(
        ("test_accuracy", "r_avg", "listed", "scored", "seconds", "images_per_s", "ood_auroc")
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
    )
    html = render(view)
    text = " ".join(Page(html).text.split())
    assert "And 3,976 more classes with 1,001 to 4,976 images each." in text
    assert "And 30 more in query.parquet." in text
    assert "And 20 rarer reasons." in text
    assert "The last 12 of 30 rounds" in text
    assert len(html) < 1_000_000


# -------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize(
    "view", [full_view(), hostile_view(), ReportView("empty", 0)], ids=["full", "hostile", "none"]
)
def test_plots_are_pictures_without_a_date(view: ReportView) -> None:
    made = plots(view)
    assert set(made) == PLOTS
    for data in made.values():
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert min(image.size) > 400
            assert not {"Software", "Creation Time"} & set(image.info)


@pytest.mark.parametrize(
    ("size", "expected"), [((8, 8), (96, 96)), ((300, 100), (96, 32)), ((40, 10), (80, 20))]
)
def test_thumbnails_fit_a_square(size: tuple[int, int], expected: tuple[int, int]) -> None:
    made = thumbnail(png(*size))
    assert made is not None
    with Image.open(io.BytesIO(made)) as image:
        assert image.size == expected
        assert image.format == "PNG"


def test_broken_images_have_no_thumbnail() -> None:
    whole = png(50, 50)
    broken = [
        b"",
        b"not an image",
        whole[:200],
        b"\x89PNG\r\n\x1a\n" + b"\xff" * 100,
        b"GIF89a" + b"\x01" * 40,
    ]
    assert [thumbnail(data) for data in broken] == [None] * len(broken)
    assert thumbnail(whole, max_pixels=2499) is None
    assert thumbnail(whole, max_pixels=2500) is not None
    rng = np.random.default_rng(0)
    for _ in range(200):  # one damaged byte: an image or none, but never an error
        damaged = bytearray(whole)
        damaged[rng.integers(len(damaged))] ^= int(rng.integers(1, 256))
        thumbnail(bytes(damaged))


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
