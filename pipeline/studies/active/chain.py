"""One strategy with one seed: train, test, ask, again. A round that is finished is never done again.

What training sees depends on the seed, the round and the labeled images alone, so strategies that have labeled the same
images have the same network.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.studies.active.config import ActiveStudy
from pipeline.studies.active.open_set import (
    known_classes,
    query_measures,
)
from pipeline.studies.active.question import _Question
from pipeline.studies.active.stage import Rows, Stage, _accuracy, _trained, initial_rows
from pipeline.studies.lab.cells import Bench, Cell
from pipeline.studies.lab.checkpoints import WEIGHTS
from pipeline.studies.lab.networks import load
from pipeline.workspace.artefacts import Workspace


def first_round(cell: Cell, bench: Bench, stage: Stage) -> Mapping[str, Any]:
    """The network that all strategies of a seed start from."""
    config: ActiveStudy = cell.hints["config"]
    rows = initial_rows(stage, config, cell.spec["seed"])
    began = time.perf_counter()
    weights, known = _trained(stage, config, bench, rows, cell.spec["seed"], 0)
    seconds = time.perf_counter() - began
    store = bench.open().store
    store.put(f"{cell.folder}/{WEIGHTS}", weights)
    store.put(f"{cell.folder}/model.json", _labeled_json(stage, rows))
    net = load(config.model, len(known), weights, bench.device)
    return {
        "weights": hashlib.sha256(weights).hexdigest(),
        "accuracy": _accuracy(net, stage, config, bench, known),
        "seconds": {"train": seconds},
    }


def chain(cell: Cell, bench: Bench, stage: Stage) -> Mapping[str, Any]:
    """All rounds of one strategy; each is an artefact of its own, found if it is there."""
    config: ActiveStudy = cell.hints["config"]
    workspace = bench.open()
    row_of = {name: row for row, name in enumerate(stage.ids)}
    labeled = initial_rows(stage, config, cell.spec["seed"])
    lines: list[dict[str, Any]] = []
    for index in range(config.rounds):
        key = f"{cell.folder}/round-{index:03d}.json"
        if workspace.exists(key):
            line = workspace.read_json(key)
        else:
            line = _round(cell, bench, stage, workspace, labeled, index)
            workspace.write_json(key, line)
        lines.append(line)
        labeled = np.sort(np.concatenate([labeled, np.asarray([row_of[i] for i in line["query"]], np.int64)]))
    seconds = {
        f"{part}/{index:03d}": value
        for index, line in enumerate(lines)
        for part, value in line["seconds"].items()
    }
    return {
        "rounds": [{k: v for k, v in line.items() if k != "seconds"} for line in lines],
        "seconds": seconds,
    }


def _round(
    cell: Cell, bench: Bench, stage: Stage, workspace: Workspace, labeled: Rows, index: int
) -> dict[str, Any]:
    config: ActiveStudy = cell.hints["config"]
    seed, seconds = cell.spec["seed"], {}
    known = known_classes(stage.truth[labeled], len(stage.classes), config.open_set)
    if index == 0:
        folder = cell.hints["initial"]
        weights = workspace.store.get(f"{folder}/{WEIGHTS}")
        reached = workspace.read_json(f"{folder}/result.json")["accuracy"]
        net = load(config.model, len(known), weights, bench.device)
    else:
        began = time.perf_counter()
        weights, known = _trained(stage, config, bench, labeled, seed, index)
        seconds["train"] = time.perf_counter() - began
        net = load(config.model, len(known), weights, bench.device)
        reached = _accuracy(net, stage, config, bench, known)
    line: dict[str, Any] = {"labeled": len(labeled), "accuracy": reached, "classes": len(known), "query": []}
    if index + 1 == config.rounds:
        workspace.store.put(f"{cell.folder}/model.json", _labeled_json(stage, labeled))
        workspace.store.put(f"{cell.folder}/{WEIGHTS}", weights)
        return {**line, "seconds": seconds}
    asked, more, took = _Question(cell, bench, stage, net, labeled, known, index).ask()
    if config.open_set is not None:
        line |= query_measures(stage.truth[asked], stage.truth[labeled], stage.truth)
    return {**line, **more, "query": [stage.ids[row] for row in asked], "seconds": {**seconds, **took}}


def _labeled_json(stage: Stage, labeled: Rows) -> bytes:
    return json.dumps({"labeled": [stage.ids[row] for row in labeled]}).encode()
