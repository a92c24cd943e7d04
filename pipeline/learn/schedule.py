"""Rows of each step and the learning rate, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def steps(
    rows: NDArray[np.int64], batch_size: int, workers: int, *, seed: int, epoch: int
) -> Iterator[NDArray[np.int64]]:
    """Cut an epoch's permutation of the rows into batches.

    The permutation depends on (seed, epoch) alone. A batch is for all workers together: each takes
    `batch[rank::workers]` and needs at least two rows for batch normalisation. So the rows are spread evenly over the
    batches, and repeated in a set that is too small.
    """
    least = 2 * workers
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    if len(order) < least:
        yield np.resize(order, least)
        return
    count = min(math.ceil(len(order) / batch_size), len(order) // least)
    yield from np.array_split(order, count)


def learning_rate(step: int, total: int, peak: float) -> float:
    """Return the learning rate of a step, by a cosine with warm-up.

    It rises linearly over the first twentieth of `total` steps, then falls from `peak` to zero.
    """
    warm = max(total // 20, 1)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(total - warm, 1)))
