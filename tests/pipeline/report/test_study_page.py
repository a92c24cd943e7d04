"""The study report: equal bytes, hostile names, a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.report.blocks import Block
from pipeline.report.study_page import render
from pipeline.studies.active import blocks as curve_report
from pipeline.studies.active.config import ActiveStudy
from pipeline.studies.kinds import load_study
from pipeline.studies.lab import scoreboard
from pipeline.studies.outcome import SECONDS
from tests.support.browser import Browser, opened
from tests.support.study_results import STRATEGIES, lines, many_curves

HOSTILE = "\"><script>window.pwned=1</script><img src=x onerror='window.pwned=1'>\u202e{{ 7 * 7 }} $\\frac{"
CONFIG = Path(__file__).parents[3] / "configs" / "openset_cifar10_small.yaml"


def blocks_of(names: list[str]) -> list[Block]:
    config = load_study(CONFIG)
    assert isinstance(config, ActiveStudy)
    rows = [{"cell": f"chains/{name}/seed-0", "part": "select/000", "seconds": 1.0} for name in names]
    seconds = pa.Table.from_pylist(rows, schema=SECONDS)
    return [
        *scoreboard.blocks(lines(names), "detector"),
        *curve_report.blocks(many_curves(names), seconds, config),
    ]


def page_of(names: list[str]) -> str:
    return render(names[-1], "ood", facts={names[-1]: names[-1]}, blocks=blocks_of(names))


def test_equal_values_are_equal_pages() -> None:
    assert page_of(STRATEGIES[:3]) == page_of(STRATEGIES[:3])


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with opened(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
@pytest.mark.parametrize("names", [STRATEGIES, [HOSTILE + "x" * 5000, "b"]], ids=["plain", "hostile"])
def test_a_browser_shows_the_page(
    browser: Browser, tmp_path: Path, names: list[str], width: int, scheme: str
) -> None:
    page = tmp_path / "report.html"
    page.write_text(page_of(names), encoding="utf-8")
    browser.show(page, width, scheme)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    whole = "document.images.length > 3 && [...document.images].every(i => i.complete && i.naturalWidth > 0)"
    assert browser.ask(whole) is True
    assert browser.ask("typeof window.pwned") == "undefined"
    assert browser.ask("document.scripts.length") == 0
    assert all(url == page.as_uri() or url.startswith("data:image/png") for url in browser.asked_for())
    assert browser.complaints() == []
