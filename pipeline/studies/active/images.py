"""Images of an active-learning study, and the first labeled ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.model.weights import Start
from pipeline.studies.active.config import ActiveStudy
from pipeline.studies.active.open_set import known_at_first

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class StudyImages:
    """The pool and the test set of a study, decoded.

    Far images of the pool have class -1.
    """

    ids: tuple[str, ...]
    pixels: NDArray[np.uint8]
    truth: Rows
    test_pixels: NDArray[np.uint8]
    test_truth: Rows
    classes: tuple[str, ...]
    start: Start | None


def initial_rows(images: StudyImages, config: ActiveStudy, seed: int) -> Rows:
    """Choose the first labeled images, equal shares of the known classes."""
    rng = np.random.default_rng([seed, 1])
    known = known_at_first(len(images.classes), config.open_set)
    members = [rng.permutation(np.flatnonzero(images.truth == c)) for c in range(known)]
    order = [rows[i] for i in range(max(map(len, members))) for rows in members if i < len(rows)]
    return np.sort(np.asarray(order[: config.initial], np.int64))
