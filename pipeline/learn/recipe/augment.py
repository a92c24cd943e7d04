"""Augmentation of images, as a pure function of a seed."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.config.training import Augment


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
