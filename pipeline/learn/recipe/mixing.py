"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899) of a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config.training import Augment, Crops

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Mixing:
    """The partners of a batch's images, and their shares.

    partners  (n,) place in the batch of each image's partner
    share     of the partner in the mixed image, by weight (mixup) or by area (cutmix)
    box       top, bottom, left and right of what cutmix takes from the partner; None for mixup
    """

    partners: NDArray[np.int64]
    share: float
    box: Box | None = None

    def of(self, own: Tensor, other: Tensor) -> Tensor:
        """Mix uint8 images with their partners, rounded to uint8."""
        if self.box is None:
            return own.float().lerp(other.float(), self.share).round().to(torch.uint8)
        top, bottom, left, right = self.box
        mixed = own.clone()
        mixed[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
        return mixed


def mixing(augment: Crops, count: int, side: int, *, seed: tuple[int, ...]) -> Mixing | None:
    """Choose the mixing of a batch by its seed alone.

    None where nothing is mixed.

    Args:
        augment: what may be mixed.
        count: images of the whole batch, of all workers.
        side: pixels of an image's side.
        seed: of the batch.
    """
    if not isinstance(augment, Augment) or (augment.mixup is None and augment.cutmix is None):
        return None
    rng = np.random.default_rng([*seed, 3])
    cut = augment.mixup is None or (augment.cutmix is not None and bool(rng.random() < 0.5))
    alpha = augment.cutmix if cut else augment.mixup
    assert alpha is not None
    share, partners = float(rng.beta(alpha, alpha)), rng.permutation(count)
    if not cut:
        return Mixing(partners, share)
    half = side * math.sqrt(share) / 2
    middles = rng.integers(0, side, 2)
    ends = [(max(round(m - half), 0), min(round(m + half), side)) for m in middles.tolist()]
    (top, bottom), (left, right) = ends
    return Mixing(partners, (bottom - top) * (right - left) / side**2, (top, bottom, left, right))
