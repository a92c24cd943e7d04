"""Views of a round: a full one and a hostile one."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from pipeline.images.thumbnail import thumbnail
from pipeline.report.round_page import CARDS
from pipeline.report.round_view import Histogram, QueryCard, ReportView, RoundLine

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
            "test_images": 97,
            "test_unreadable": 3,
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
        changes=((1, "query.size: 30 -> 40"),),
        test_unreadable=(("test-00012", "file:///data/test.parquet", "truncated PNG"),),
    )


def hostile_view() -> ReportView:
    text = HOSTILE + "x" * 20_000
    return ReportView(
        project=text,
        index=0,
        rounds=(RoundLine(0, 10, 0.5),),
        metrics={
            "test_accuracy": 0.5,
            "test_unreadable": 10**9,
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
        changes=((0, text),),
        test_unreadable=((text, text, text),) * 1000,
    )
