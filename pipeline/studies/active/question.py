"""One query of one strategy."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

import sisom
from pipeline.studies.active.config import ActiveStudy, Strategy
from pipeline.studies.active.open_set import (
    passing,
    threshold,
)
from pipeline.studies.active.stage import Rows, Stage, _trained, round_seed
from pipeline.studies.lab.cells import Bench, Cell
from pipeline.studies.lab.networks import embed, load, predict
from sisom.selectors.committee import dropout_votes, ensemble_votes
from sisom.types import Candidates, Labeled


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
            space = config.space
            bank = sisom.fit_bank(
                seen, labels, slopes=space.slopes, spec=space.spec, num_classes=len(self.known)
            )
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
