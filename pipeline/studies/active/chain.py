"""Chains of rounds: a strategy with a seed trains, tests and asks.

A round that is finished is never done again.

Training depends on the seed, the round and the labeled images alone, so strategies that have labeled the same images
have the same network.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.learn.seeds import round_seed
from pipeline.studies.active.config import ActiveStudy, Strategy
from pipeline.studies.active.images import Rows, StudyImages, initial_rows
from pipeline.studies.active.learner import Learner
from pipeline.studies.active.open_set import query_measures
from pipeline.studies.active.query import StudyQuery
from pipeline.studies.lab.cells import Bench, Cell
from pipeline.studies.lab.checkpoints import WEIGHTS
from pipeline.workspace.artefacts import Workspace


@dataclass(frozen=True)
class ChainHints:
    """Config and strategy of a chain; `initial` holds its first network."""

    config: ActiveStudy
    strategy: Strategy
    initial: str


def first_round(cell: Cell[ActiveStudy], bench: Bench, images: StudyImages) -> Mapping[str, Any]:
    """Train the network that all strategies of a seed start from."""
    learner = Learner(cell.hints, images, bench)
    rows = initial_rows(images, cell.hints, cell.spec["seed"])
    began = time.perf_counter()
    weights = learner.train(rows, seed=round_seed(cell.spec["seed"], 0))
    seconds = time.perf_counter() - began
    store = bench.open().store
    store.put(f"{cell.folder}/{WEIGHTS}", weights)
    store.put(f"{cell.folder}/model.json", json.dumps(learner.named(rows)).encode())
    known = learner.known(rows)
    return {
        "weights": hashlib.sha256(weights).hexdigest(),
        "accuracy": learner.accuracy(learner.load(weights, known), known),
        "seconds": {"train": seconds},
    }


def chain(cell: Cell[ChainHints], bench: Bench, images: StudyImages) -> Mapping[str, Any]:
    """Run all rounds of a strategy.

    Each round is an artefact of its own.
    """
    config, workspace = cell.hints.config, bench.open()
    rounds = _Rounds(cell, Learner(config, images, bench), workspace)
    row_of = {name: row for row, name in enumerate(images.ids)}
    labeled = initial_rows(images, config, cell.spec["seed"])
    lines: list[dict[str, Any]] = []
    for index in range(config.rounds):
        key = f"{cell.folder}/round-{index:03d}.json"
        if workspace.exists(key):
            line = workspace.read_json(key)
        else:
            line = rounds.do(index, labeled)
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


@dataclass(frozen=True)
class _Rounds:
    """The rounds of a chain."""

    cell: Cell[ChainHints]
    learner: Learner
    workspace: Workspace

    def do(self, index: int, labeled: Rows) -> dict[str, Any]:
        """Train, test and, but in the last round, ask."""
        cell, learner, images = self.cell, self.learner, self.learner.images
        seed, seconds = round_seed(cell.spec["seed"], index), {}
        known = learner.known(labeled)
        if index == 0:
            weights = self.workspace.store.get(f"{cell.hints.initial}/{WEIGHTS}")
            reached = self.workspace.read_json(f"{cell.hints.initial}/result.json")["accuracy"]
            net = learner.load(weights, known)
        else:
            began = time.perf_counter()
            weights = learner.train(labeled, seed=seed)
            seconds["train"] = time.perf_counter() - began
            net = learner.load(weights, known)
            reached = learner.accuracy(net, known)
        line: dict[str, Any] = {
            "labeled": len(labeled), "accuracy": reached, "classes": len(known), "query": []
        }  # fmt: skip
        if index + 1 == learner.config.rounds:
            trained_on = json.dumps(learner.named(labeled)).encode()
            self.workspace.store.put(f"{cell.folder}/model.json", trained_on)
            self.workspace.store.put(f"{cell.folder}/{WEIGHTS}", weights)
            return {**line, "seconds": seconds}
        picks = StudyQuery(learner, cell.hints.strategy, net, labeled, seed).pick()
        if learner.config.open_set is not None:
            line |= query_measures(images.truth[picks.rows], images.truth[labeled], images.truth)
        return {
            **line,
            **picks.measured,
            "query": [images.ids[row] for row in picks.rows],
            "seconds": {**seconds, **picks.seconds},
        }
