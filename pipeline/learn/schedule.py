"""Rows of each step, crops, and the learning rate, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.config.training import Augment


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


def augmented(pixels: torch.Tensor, augment: Augment, seed: tuple[int, ...]) -> torch.Tensor:
    """Pad with zeros, crop and mirror (n, 3, s, s) uint8 pixels.

    Randomness comes from `seed` alone.
    """
    n, _, side, _ = pixels.shape
    rng = np.random.default_rng(seed)
    if augment.pad:
        pad = augment.pad
        padded = F.pad(pixels, (pad, pad, pad, pad))
        top, left = (torch.from_numpy(rng.integers(0, 2 * pad + 1, n)) for _ in range(2))
        reach = torch.arange(side)
        down = (top[:, None] + reach)[:, None, :, None]
        across = (left[:, None] + reach)[:, None, None, :]
        pixels = padded[
            torch.arange(n)[:, None, None, None], torch.arange(3)[None, :, None, None], down, across
        ]
    if augment.flip:
        mirrored = torch.from_numpy(rng.random(n) < 0.5)[:, None, None, None]
        pixels = torch.where(mirrored, pixels.flip(-1), pixels)
    return pixels


def learning_rate(step: int, total: int, peak: float) -> float:
    """Return the learning rate of a step, by a cosine with warm-up.

    It rises linearly over the first twentieth of `total` steps, then falls from `peak` to zero.
    """
    warm = max(total // 20, 1)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(total - warm, 1)))
