"""Queries of a strategy."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

import sisom
from pipeline.learn.seeds import member_seed
from pipeline.studies.active.config import Strategy
from pipeline.studies.active.images import Rows
from pipeline.studies.active.learner import Learner
from pipeline.studies.active.open_set import Classes, passing
from sisom.selectors.committee import dropout_votes, ensemble_votes
from sisom.types import Candidates, Labeled
from sisom.verdicts import far_filter


@dataclass(frozen=True)
class StudyPicks:
    """Picked rows in pick order, measured values and seconds."""

    rows: Rows
    measured: dict[str, float]
    seconds: dict[str, float]


@dataclass(frozen=True)
class StudyQuery:
    """A query; only what the strategy needs is computed.

    learner   makes features and networks
    strategy  chooses the rows
    net       the round's network
    labeled   rows that are labeled by now
    seed      of the round
    """

    learner: Learner
    strategy: Strategy
    net: torch.nn.Module
    labeled: Rows
    seed: int

    @cached_property
    def known(self) -> Classes:
        """The classes that are known by now."""
        return self.learner.known(self.labeled)

    def pick(self) -> StudyPicks:
        """Choose rows of the pool to label."""
        config, images = self.learner.config, self.learner.images
        selector = self.strategy.selector(sisom.Head.of(self.net.cpu()))
        self.net.to(self.learner.bench.device)
        needs, measured = selector.needs, {}
        pool = np.setdiff1d(np.arange(len(images.ids)), self.labeled)
        began = time.perf_counter()
        features = scores = votes = seen = None
        inside = self.labeled[np.isin(images.truth[self.labeled], self.known)]
        labels = torch.from_numpy(np.searchsorted(self.known, images.truth[inside]))
        deep = "scores" in needs or hasattr(selector, "slopes")  # some build a bank of their own
        if needs - {"labeled"} or self.strategy.filter:
            features = self.learner.features(self.net, pool, deep=deep)
        if self.strategy.filter:
            assert features is not None
            kept = self._passing(features, least=min(config.query, len(pool)))
            pool, features = pool[kept], features.select(torch.from_numpy(kept))
        if "labeled" in needs or deep:
            seen = self.learner.features(self.net, inside, deep=deep)
        if "scores" in needs:
            assert seen is not None and features is not None
            space = config.space
            bank = sisom.fit_bank(
                seen, labels, slopes=space.slopes, spec=space.spec, num_classes=len(self.known)
            )
            measured["r_avg"] = float(bank.r_avg)
            scores = sisom.score(bank, features)
        if "committee" in needs:
            assert features is not None
            votes = self._votes(getattr(selector, "committee", "dropout"), features, pool)
        prepare_s = time.perf_counter() - began
        began = time.perf_counter()
        candidates = Candidates([images.ids[row] for row in pool], scores, features, votes)
        labeled = Labeled(seen, labels, len(self.known))
        picks = selector.select(candidates, labeled, min(config.query, len(pool)), seed=self.seed)
        seconds = {"prepare": prepare_s, "select": time.perf_counter() - began}
        return StudyPicks(pool[picks.numpy()], measured, seconds)

    def _passing(self, features: sisom.Features, *, least: int) -> Rows:
        """Return the rows that pass the open-set filter.

        The filter is tuned on the labeled images; at least `least` rows pass.
        """
        images = self.learner.images
        answered = _energy(self.learner.logits(self.net, images.pixels[self.labeled]))
        far = images.truth[self.labeled] < 0
        limit, _ = far_filter(answered[far], answered[~far])
        return np.flatnonzero(passing(_energy(features.logits), limit, least))

    def _votes(self, committee: str, features: sisom.Features, pool: Rows) -> torch.Tensor:
        """Return class probabilities by each member of the committee.

        Members are passes with dropout, or this network and others trained with other seeds.
        """
        rules = self.learner.config.committee
        if committee == "dropout":
            head = sisom.Head.of(self.net.cpu())
            self.net.to(self.learner.bench.device)
            return dropout_votes(
                head, features.penultimate, members=rules.members, dropout=rules.dropout, seed=self.seed
            )
        found = [features.logits]
        for member in range(1, rules.members):
            weights = self.learner.train(self.labeled, seed=member_seed(self.seed, member))
            net = self.learner.load(weights, self.known)
            found.append(self.learner.logits(net, self.learner.images.pixels[pool]))
        return ensemble_votes(found)


def _energy(logits: torch.Tensor) -> NDArray[np.float64]:
    return -torch.logsumexp(logits.double(), dim=1).numpy()
