"""The report of a study: hostile names, equal bytes, and what a real browser makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from browser import Browser, opened

from pipeline.report.blocks import Block
from pipeline.report.study_page import render
from pipeline.studies.active import blocks as curve_report
from pipeline.studies.active import curves
from pipeline.studies.active.config import ActiveStudy
from pipeline.studies.active.curves import Curve
from pipeline.studies.kinds import load_study
from pipeline.studies.lab import scoreboard
from pipeline.studies.lab.scoreboard import Line
from pipeline.studies.outcome import SECONDS

HOSTILE = "\"><script>window.pwned=1</script><img src=x onerror='window.pwned=1'>\u202e{{ 7 * 7 }} $\\frac{"
CONFIG = Path(__file__).parents[2] / "configs" / "openset_cifar10_small.yaml"


def lines(names: list[str], networks: int = 2) -> list[Line]:
    rng = np.random.default_rng(0)
    return [
        Line(
            name,
            f"network {n}",
            {
                role: {m: float(rng.random()) for m in scoreboard.METRICS}
                for role in ("near/a", "near/b", "far/c")
            },
        )
        for n in range(networks)
        for name in names
    ]


def many_curves(names: list[str]) -> list[Curve]:
    rng = np.random.default_rng(0)
    found = []
    for seed in range(3):
        for name in names:
            rounds: list[dict[str, Any]] = [
                {
                    "labeled": 100 + 50 * i,
                    "accuracy": 0.4 + 0.05 * i + 0.02 * float(rng.random()),
                    "classes": 4 + i,
                }
                for i in range(5)
            ]
            for line in rounds:
                line |= {"precision": 0.8, "recall": 0.4, "r_avg": 1.1, "query": ["a"]}
            found.append(Curve(name, seed, tuple(rounds)))
    return found


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


STRATEGIES = ["random", "margin", "entropy", "coreset", "badge", "typiclust", "sisom", "sisome"]


def test_equal_values_are_equal_pages() -> None:
    assert page_of(STRATEGIES[:3]) == page_of(STRATEGIES[:3])


def test_tables_hold_what_was_measured() -> None:
    found = lines(["a", "b"])
    values = scoreboard.all_values(found, "detector").to_pylist()
    assert len(values) == 2 * 2 * 3
    summary = {
        (r["detector"], r["group"], r["set"]): r for r in scoreboard.summary(found, "detector").to_pylist()
    }
    near = [
        np.mean([line.sets[role]["auroc"] for role in ("near/a", "near/b")])
        for line in found
        if line.method == "a"
    ]
    assert summary["a", "near", "mean"]["auroc"] == pytest.approx(np.mean(near))
    assert summary["a", "near", "mean"]["auroc_std"] == pytest.approx(np.std(near, ddof=1))
    assert scoreboard.summary(lines(["a"], 1), "detector")["auroc_std"].null_count == 5
    tables = curves.tables(many_curves(STRATEGIES), (0.5, 0.99))
    assert tables["rounds"].num_rows == 8 * 3 * 5
    assert tables["pairs"].num_rows == 28
    assert tables["summary"]["labels_to_0.99"].null_count == 8


def test_areas_are_those_of_the_benchmark() -> None:
    """By OpenOOD's definitions, written again with scikit-learn; perfect scores give one, and never more."""
    from sklearn.metrics import auc, precision_recall_curve

    g = torch.Generator().manual_seed(0)
    known, unknown = torch.randn(300, generator=g).round(decimals=1), torch.randn(80, generator=g) + 1
    found = scoreboard.measures(known, unknown)
    is_known = np.r_[np.ones(300), np.zeros(80)]
    confidence = -torch.cat([known, unknown]).double().numpy()
    precision, recall, _ = precision_recall_curve(is_known, confidence)
    assert found["aupr_in"] == pytest.approx(auc(recall, precision))
    precision, recall, _ = precision_recall_curve(1 - is_known, -confidence)
    assert found["aupr_out"] == pytest.approx(auc(recall, precision))
    for n in (3, 7, 60, 300):
        perfect = scoreboard.measures(torch.zeros(n), torch.ones(n // 3))
        assert perfect == pytest.approx({"auroc": 1.0, "fpr95": 0.0, "aupr_in": 1.0, "aupr_out": 1.0})
        assert max(perfect.values()) <= 1.0


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
