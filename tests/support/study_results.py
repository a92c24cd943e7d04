"""Made-up results of studies."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.studies.active.curves import Curve
from pipeline.studies.lab import scoreboard
from pipeline.studies.lab.scoreboard import Line


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


STRATEGIES = ["random", "margin", "entropy", "coreset", "badge", "typiclust", "sisom", "sisome"]
