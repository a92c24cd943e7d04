"""Augmentation of images by seed."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from pipeline.config.training import Augment
from pipeline.learn.recipe.augment import augmented


def images(n: int, side: int = 6) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(1, 256, (n, 3, side, side)).astype(np.uint8))


def test_without_crops_and_mirrors_nothing_changes() -> None:
    pixels = images(5)
    assert torch.equal(augmented(pixels, Augment(pad=0, flip=False), (1, 2, 3)), pixels)


def test_the_seed_alone_decides() -> None:
    pixels, augment = images(20), Augment(pad=2, flip=True)
    kept = pixels.clone()
    torch.manual_seed(0)
    first = augmented(pixels, augment, (1, 2, 3))
    torch.manual_seed(1)
    assert torch.equal(augmented(pixels, augment, (1, 2, 3)), first)
    assert not torch.equal(augmented(pixels, augment, (1, 2, 4)), first)
    assert torch.equal(pixels, kept)
    assert (first.shape, first.dtype) == (pixels.shape, torch.uint8)


def shift_of(pixels: torch.Tensor, found: torch.Tensor, pad: int) -> tuple[int, int] | None:
    """How far the window was moved, found by trying all moves; zeros come in from outside."""
    side = pixels.shape[-1]
    for down, right in itertools.product(range(-pad, pad + 1), repeat=2):
        want = torch.zeros_like(pixels)
        top, left = max(0, -down), max(0, -right)
        height, width = side - abs(down), side - abs(right)
        want[:, top : top + height, left : left + width] = pixels[
            :, max(0, down) : max(0, down) + height, max(0, right) : max(0, right) + width
        ]
        if torch.equal(want, found):
            return down, right
    return None


def test_crops_are_shifts_by_at_most_the_padding_and_reach_all_of_it() -> None:
    pixels = images(200)
    found = augmented(pixels, Augment(pad=1, flip=False), (0,))
    shifts = [shift_of(a, b, 1) for a, b in zip(pixels, found, strict=True)]
    assert set(shifts) == set(itertools.product((-1, 0, 1), repeat=2))


def test_a_shift_by_hand() -> None:
    """One white pixel in the middle of 3 x 3: padded by one and cropped, it lies where the crop put it."""
    pixels = torch.zeros(100, 3, 3, 3, dtype=torch.uint8)
    pixels[:, :, 1, 1] = 255
    found = augmented(pixels, Augment(pad=1, flip=False), (7,))
    places = {tuple(torch.nonzero(image[0])[0].tolist()) for image in found}
    assert places == set(itertools.product(range(3), repeat=2))  # the middle moved by -1, 0 or 1 each way
    assert found.sum() == 100 * 3 * 255


def test_about_half_are_mirrored_and_none_is_changed_otherwise() -> None:
    pixels = images(400)
    found = augmented(pixels, Augment(pad=0, flip=True), (0,))
    mirrored = [torch.equal(b, a.flip(-1)) for a, b in zip(pixels, found, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(pixels, found, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 150 < sum(mirrored) < 250  # 200 in the mean with a deviation of 10
