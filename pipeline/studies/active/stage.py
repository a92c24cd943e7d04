"""Images of a study, seeds, training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.learn.epoch import Course, ExamplesInMemory, Exposure
from pipeline.learn.seeds import member_seed, round_seed
from pipeline.model.weights import Start, new_network
from pipeline.store.opening import open_store
from pipeline.studies.active.config import ActiveStudy
from pipeline.studies.active.open_set import (
    accuracy,
    known_at_first,
    known_classes,
)
from pipeline.studies.lab.cells import Bench
from pipeline.studies.lab.networks import fit, predict
from sisom.network.models import save_weights

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
    start: Start | None


def initial_rows(stage: Stage, config: ActiveStudy, seed: int) -> Rows:
    """The images that are labeled at first: of the known classes, each as often as the others, the same for all."""
    rng = np.random.default_rng([seed, 1])
    known = known_at_first(len(stage.classes), config.open_set)
    members = [rng.permutation(np.flatnonzero(stage.truth == c)) for c in range(known)]
    order = [rows[i] for i in range(max(map(len, members))) for rows in members if i < len(rows)]
    return np.sort(np.asarray(order[: config.initial], np.int64))


def _trained(
    stage: Stage, config: ActiveStudy, bench: Bench, labeled: Rows, seed: int, index: int, member: int = 0
) -> tuple[bytes, Rows]:
    """Weights trained afresh on the labeled images of known classes, and these classes in the order of the head."""
    truth = stage.truth[labeled]
    known = known_classes(truth, len(stage.classes), config.open_set)
    chosen = member_seed(round_seed(seed, index), member)
    inside = labeled[np.isin(truth, known)]
    net = new_network(config.model, len(known), seed=chosen, dropout=config.train.dropout, start=stage.start)
    course = Course(
        ExamplesInMemory(stage.pixels, np.searchsorted(known, stage.truth)),
        inside,
        config.model,
        config.train,
        chosen,
        exposure=_exposure(stage, config, labeled),
    )
    return save_weights(fit(net, course, device=bench.device)), known


def _exposure(stage: Stage, config: ActiveStudy, labeled: Rows) -> Exposure | None:
    """The labeled far images, where the study's rules say that they teach the network."""
    far = labeled[stage.truth[labeled] < 0]
    if config.open_set is None or not len(far) or not config.open_set.exposure:
        return None
    return Exposure(stage.pixels[far], config.open_set.exposure)


def _accuracy(net: torch.nn.Module, stage: Stage, config: ActiveStudy, bench: Bench, known: Rows) -> float:
    """Share of the test images that are right; in an open set, see `open_set.accuracy`."""
    size = bench.compute.batch_size
    logits = predict(net, stage.test_pixels, config.model, batch_size=size, device=bench.device)
    predicted = known[logits.argmax(1).numpy()]
    if config.open_set is not None:
        return accuracy(predicted, stage.test_truth, known, len(stage.classes))
    return float((predicted == stage.test_truth).mean())


def open_start(uri: str | None, bench: Bench) -> Start | None:
    """Read the weights of a self-supervised start."""
    return None if uri is None else Start(open_store(uri, bench.storage).get(""), "backbone")
