"""One strategy with one seed: train, test, ask, again. A round that is finished is never done again.

What training sees depends on the seed, the round and the labeled images alone, so strategies that have labeled the same
images have the same network.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import sisom
from pipeline.storage import open_store
from pipeline.studies.active_config import ActiveStudy, Strategy
from pipeline.studies.cells import Bench, Cell
from pipeline.studies.checkpoints import WEIGHTS
from pipeline.studies.networks import build, embed, fit, load, predict
from pipeline.studies.open_set import (
    accuracy,
    known_at_first,
    known_classes,
    passing,
    query_measures,
    threshold,
)
from pipeline.workspace import Workspace
from sisom.models import save_weights
from sisom.selectors import dropout_votes, ensemble_votes
from sisom.types import Candidates, Labeled

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Stage:
    """The images of a study, decoded: the pool with far images (class -1) among them, and the test set."""

    ids: tuple[str, ...]
    pixels: NDArray[np.uint8]
    truth: Rows
    test_pixels: NDArray[np.uint8]
    test_truth: Rows
    classes: tuple[str, ...]
    start: bytes | None


def initial_rows(stage: Stage, config: ActiveStudy, seed: int) -> Rows:
    """The images that are labeled at first: of the known classes, each as often as the others, the same for all."""
    rng = np.random.default_rng([seed, 1])
    known = known_at_first(len(stage.classes), config.open_set)
    members = [rng.permutation(np.flatnonzero(stage.truth == c)) for c in range(known)]
    order = [rows[i] for i in range(max(map(len, members))) for rows in members if i < len(rows)]
    return np.sort(np.asarray(order[: config.initial], np.int64))


def round_seed(seed: int, index: int, member: int = 0) -> int:
    """The seed of a round's training, and of the other members of a committee."""
    return int(np.random.SeedSequence([seed, index, member]).generate_state(1)[0] >> 1)


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


def _trained(
    stage: Stage, config: ActiveStudy, bench: Bench, labeled: Rows, seed: int, index: int, member: int = 0
) -> tuple[bytes, Rows]:
    """Weights trained afresh on the labeled images of known classes, and these classes in the order of the head."""
    truth = stage.truth[labeled]
    known = known_classes(truth, len(stage.classes), config.open_set)
    chosen = round_seed(seed, index, member)
    inside = labeled[np.isin(truth, known)]
    net = build(config.model, len(known), seed=chosen, dropout=config.train.dropout, start=stage.start)
    outliers = stage.pixels[labeled[truth < 0]] if config.open_set is not None else None
    fit(
        net,
        stage.pixels[inside],
        np.searchsorted(known, stage.truth[inside]),
        config.train,
        config.model,
        seed=chosen,
        device=bench.device,
        outliers=outliers,
        exposure=config.open_set.exposure if config.open_set is not None else 0.0,
    )
    return save_weights(net), known


def _accuracy(net: torch.nn.Module, stage: Stage, config: ActiveStudy, bench: Bench, known: Rows) -> float:
    """Share of the test images that are right; in an open set, see `open_set.accuracy`."""
    size = bench.compute.batch_size
    logits = predict(net, stage.test_pixels, config.model, batch_size=size, device=bench.device)
    predicted = known[logits.argmax(1).numpy()]
    if config.open_set is not None:
        return accuracy(predicted, stage.test_truth, known, len(stage.classes))
    return float((predicted == stage.test_truth).mean())


def _labeled_json(stage: Stage, labeled: Rows) -> bytes:
    return json.dumps({"labeled": [stage.ids[row] for row in labeled]}).encode()


@dataclass(frozen=True)
class _Question:
    """One query: what the strategy needs is made, nothing else."""

    cell: Cell
    bench: Bench
    stage: Stage
    net: torch.nn.Module
    labeled: Rows
    known: Rows
    index: int

    def ask(self) -> tuple[Rows, dict[str, float], dict[str, float]]:
        """Rows of the pool to label, in pick order; what is worth telling; and the seconds it took."""
        config: ActiveStudy = self.cell.hints["config"]
        choice: Strategy = self.cell.hints["strategy"]
        selector = choice.selector(sisom.Head.of(self.net.cpu()))
        self.net.to(self.bench.device)
        needs, told = selector.needs, {}
        pool = np.setdiff1d(np.arange(len(self.stage.ids)), self.labeled)
        seed = round_seed(self.cell.spec["seed"], self.index)
        began = time.perf_counter()
        features = scores = votes = seen = None
        inside = self.labeled[np.isin(self.stage.truth[self.labeled], self.known)]
        labels = torch.from_numpy(np.searchsorted(self.known, self.stage.truth[inside]))
        deep = "scores" in needs or hasattr(selector, "slopes")  # some build a bank of their own
        if needs - {"labeled"} or choice.filter:
            features = self._features(pool, deep=deep)
        if choice.filter:
            pool, features = self._filtered(pool, features, min(config.query, len(pool)))
        if "labeled" in needs or deep:
            seen = self._features(inside, deep=deep)
        if "scores" in needs:
            assert seen is not None and features is not None
            bank = sisom.fit_bank(seen, labels, num_classes=len(self.known), **config.space.model_dump())
            told["r_avg"] = float(bank.r_avg)
            scores = sisom.score(bank, features)
        if "committee" in needs:
            assert features is not None
            who = getattr(selector, "committee", "dropout")
            votes = self._votes(who, features, pool, seed)
        embed_s = time.perf_counter() - began
        began = time.perf_counter()
        candidates = Candidates([self.stage.ids[row] for row in pool], scores, features, votes)
        known = Labeled(seen, labels, len(self.known))
        picks = selector.select(candidates, known, min(config.query, len(pool)), seed=seed)
        return (
            pool[picks.numpy()],
            told,
            {"prepare": embed_s, "select": time.perf_counter() - began},
        )

    def _features(self, rows: Rows, *, deep: bool) -> sisom.Features:
        """Of images; only a bank needs more than the last layer."""
        model = self.cell.hints["config"].model
        return embed(
            self.net,
            (self.stage.pixels[rows[i : i + 1024]] for i in range(0, len(rows), 1024)),
            model,
            model.layers if deep else model.layers[-1:],
            device=self.bench.device,
            batch_size=self.bench.compute.batch_size,
        )

    def _filtered(
        self, pool: Rows, features: sisom.Features | None, least: int
    ) -> tuple[Rows, sisom.Features]:
        """The part of the pool that does not look as far away as the labeled far images."""
        assert features is not None
        config: ActiveStudy = self.cell.hints["config"]
        size = self.bench.compute.batch_size
        pixels = self.stage.pixels[self.labeled]
        logits = predict(self.net, pixels, config.model, batch_size=size, device=self.bench.device)
        limit = threshold(_energy(logits), self.stage.truth[self.labeled] < 0)
        keep = np.flatnonzero(passing(_energy(features.logits), limit, least))
        return pool[keep], features.select(torch.from_numpy(keep))

    def _votes(self, who: str, features: sisom.Features, pool: Rows, seed: int) -> torch.Tensor:
        """Class probabilities by each member: passes with dropout before the classifier, or networks of other seeds."""
        config: ActiveStudy = self.cell.hints["config"]
        members = config.committee.members
        if who == "dropout":
            head = sisom.Head.of(self.net.cpu())
            self.net.to(self.bench.device)
            dropout = config.committee.dropout
            return dropout_votes(head, features.penultimate, members=members, dropout=dropout, seed=seed)
        found = [features.logits]
        size = self.bench.compute.batch_size
        for member in range(1, members):
            weights, _ = _trained(
                self.stage, config, self.bench, self.labeled, self.cell.spec["seed"], self.index, member
            )
            net = load(config.model, len(self.known), weights, self.bench.device)
            found.append(
                predict(net, self.stage.pixels[pool], config.model, batch_size=size, device=self.bench.device)
            )
        return ensemble_votes(found)


def _energy(logits: torch.Tensor) -> NDArray[np.float64]:
    return -torch.logsumexp(logits.double(), dim=1).numpy()


def open_start(uri: str | None, bench: Bench) -> bytes | None:
    """The weights of a self-supervised start."""
    return None if uri is None else open_store(uri, bench.storage).get("")
