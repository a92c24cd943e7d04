"""Networks of an active-learning study: training, tests, features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

import sisom
from pipeline.learn.epoch import Course, ExamplesInMemory, Exposure
from pipeline.learn.recipe.values import Recipe
from pipeline.model.weights import new_network
from pipeline.studies.active.config import ActiveStudy
from pipeline.studies.active.images import Rows, StudyImages
from pipeline.studies.active.open_set import Classes, accuracy, known_classes
from pipeline.studies.lab.cells import Bench
from pipeline.studies.lab.networks import embed, fit, load, predict
from sisom.network.models import save_weights

_PIECE = 1024  # images embedded at a time


@dataclass(frozen=True)
class Learner:
    """Networks of a study, made from rows, seeds and config alone."""

    config: ActiveStudy
    images: StudyImages
    bench: Bench

    def known(self, labeled: Rows) -> Classes:
        """Return the classes that are known, in the order of the head."""
        return known_classes(self.images.truth[labeled], len(self.images.classes), rules=self.config.open_set)

    def train(self, labeled: Rows, *, seed: int) -> bytes:
        """Train afresh on images of known classes; return the weights."""
        config, images, known = self.config, self.images, self.known(labeled)
        net = new_network(
            config.model, len(known), seed=seed, dropout=config.train.dropout, start=images.start
        )
        course = Course(
            examples=ExamplesInMemory(images.pixels, np.searchsorted(known, images.truth)),
            rows=labeled[np.isin(images.truth[labeled], known)],
            model=config.model,
            recipe=Recipe.plain(config.train),
            seed=seed,
            exposure=self._exposure(labeled),
        )
        return save_weights(fit(net, course, device=self.bench.device))

    def _exposure(self, labeled: Rows) -> Exposure | None:
        """Return the labeled far images, if they teach the network."""
        rules = self.config.open_set
        far = labeled[self.images.truth[labeled] < 0]
        if rules is None or not len(far) or not rules.exposure:
            return None
        return Exposure(self.images.pixels[far], rules.exposure)

    def load(self, weights: bytes, known: Classes) -> torch.nn.Module:
        """Return a trained network in evaluation mode."""
        return load(self.config.model, len(known), weights, device=self.bench.device)

    def accuracy(self, net: torch.nn.Module, known: Classes) -> float:
        """Return the accuracy on the test set.

        In an open set it is that of `open_set.accuracy`.
        """
        predicted = known[self.logits(net, self.images.test_pixels).argmax(1).numpy()]
        truth = self.images.test_truth
        if self.config.open_set is not None:
            return accuracy(predicted, truth, known, classes=len(self.images.classes))
        return float((predicted == truth).mean())

    def logits(self, net: torch.nn.Module, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """Return the (n, K) logits of (n, 3, s, s) pixels."""
        size = self.bench.compute.batch_size
        return predict(net, pixels, self.config.model, batch_size=size)

    def features(self, net: torch.nn.Module, rows: Rows, *, deep: bool) -> sisom.Features:
        """Return features of pool rows.

        `deep` ones are of all layers of the config, others of the last of these alone.
        """
        model = self.config.model
        return embed(
            net,
            (self.images.pixels[rows[i : i + _PIECE]] for i in range(0, len(rows), _PIECE)),
            model,
            layers=model.layers if deep else model.layers[-1:],
            batch_size=self.bench.compute.batch_size,
        )

    def named(self, rows: Rows) -> Mapping[str, list[str]]:
        """Return the ids that a network was trained on, as stored."""
        return {"labeled": [self.images.ids[row] for row in rows]}
