"""`sisom replay`: score images of a round again, without Ray."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ask.selection import SCORE_NAMES
from pipeline.config.project import Config
from pipeline.rounds.stored import StoredRound
from pipeline.workspace import keys


def replay(config: Config, index: int | None = None, *, sample: int = 64, seed: int = 0) -> dict[str, Any]:
    """Score images of a committed round again and compare.

    Args:
        config: of the project.
        index: the round; the last one by default.
        sample: how many ids, drawn by `seed`.
        seed: of the draw.

    Returns:
        How many were compared and are equal to the bit, the ids that differ with the largest relative difference,
        and those whose images can't be had any more.
    """
    stored_round = StoredRound.open(config, index)
    ids = [name for part in stored_round.parts(keys.SCORES, ["id"]) for name in part["id"].to_pylist()]
    chosen = pa.array(sorted(random.Random(seed).sample(ids, min(sample, len(ids)))), pa.string())
    rows = [
        row
        for part in stored_round.parts(keys.SCORES)
        for row in part.filter(pc.is_in(part["id"], chosen)).to_pylist()
    ]
    by_shard: dict[int, list[str]] = {}
    for row in rows:
        by_shard.setdefault(row["shard"], []).append(row["id"])
    stored = {row["id"]: row for row in rows}
    equal, differ, gone = 0, {}, {}
    for name, pixels in stored_round.pixels(by_shard):
        if isinstance(pixels, str):
            gone[name] = pixels
            continue
        again = {
            column: values[0] for column, values in stored_round.scorer.columns(pixels[None], [name]).items()
        }
        gaps = [_gap(again[c], stored[name][c]) for c in (*SCORE_NAMES, *stored_round.config.extra_columns)]
        same_class = again["predicted"] == stored[name]["predicted"]
        if same_class and not any(gaps):
            equal += 1
        else:
            differ[name] = max(gaps) if same_class else float("inf")
    return {
        "round": stored_round.index,
        "compared": equal + len(differ),
        "equal": equal,
        "differ": differ,
        "gone": gone,
    }


def _gap(again: float, stored: float) -> float:
    return 0.0 if again == stored else abs(again - stored) / max(abs(again), abs(stored))
