"""Augmentation of images, as pure functions of a seed.

What happens to an image follows from the seed and the image's place in its batch, so it does not matter who has which
rows of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config.training import Augment, Crops

Change = Callable[[Tensor], Tensor]


def augmented(
    pixels: Tensor, augment: Crops, seed: tuple[int, ...], *, places: NDArray[np.int64] | None = None
) -> Tensor:
    """Change uint8 pixels by all but mixup and cutmix.

    Args:
        pixels: (n, 3, s, s) uint8 of a whole batch; left as they are.
        augment: the changes.
        seed: the only source of randomness.
        places: of the images in the batch that are wanted, by default all.

    Returns:
        The (m, 3, s, s) uint8 images at `places`, the same whatever the other places are.
    """
    pixels = _cropped(pixels, augment, seed)
    places = np.arange(len(pixels)) if places is None else places
    pixels = pixels[torch.from_numpy(places)]
    changes = _changes(augment, pixels.shape[-1])
    if not changes:
        return pixels
    images = []
    with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's generator on the CPU
        for place, image in zip(places.tolist(), pixels, strict=True):
            state = np.random.SeedSequence([*seed, 2, place]).generate_state(1, np.uint64)
            torch.default_generator.manual_seed(int(state[0] >> np.uint64(1)))
            for change in changes:
                image = change(image)
            images.append(image)
    return torch.stack(images) if images else pixels


def _cropped(pixels: Tensor, augment: Crops, seed: tuple[int, ...]) -> Tensor:
    """Pad with zeros, crop and mirror."""
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


def _changes(augment: Crops, side: int) -> list[Change]:
    """Build torchvision's changes of a single image."""
    if not isinstance(augment, Augment):
        return []
    crop, jitter, rand = augment.random_resized_crop, augment.color_jitter, augment.rand_augment
    if crop is None and jitter is None and rand is None and not augment.trivial_augment:
        return []
    from torchvision.transforms import (
        v2,  # on use: importing it costs every worker process more than a second
    )

    changes: list[Any] = []
    if crop is not None:
        changes.append(v2.RandomResizedCrop(side, scale=crop.scale, ratio=crop.ratio, antialias=True))
    if jitter is not None:
        color = v2.ColorJitter(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
        changes.append(v2.RandomApply([color], p=jitter.probability))
    if rand is not None:
        changes.append(v2.RandAugment(num_ops=rand.operations, magnitude=rand.magnitude))
    if augment.trivial_augment:
        changes.append(v2.TrivialAugmentWide())
    return changes
