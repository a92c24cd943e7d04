"""Augmentation of images by seed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torchvision.transforms.v2  # noqa: F401  (takes seconds, which no test should pay for)

from pipeline.config.training import Augment, ColorJitter, RandAugment, RandomResizedCrop
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


# ------------------------------------------------------------------------------------ torchvision's changes

STILL = {"pad": 0, "flip": False}
NAMED = (
    ("random_resized_crop", Augment(**STILL, random_resized_crop=RandomResizedCrop())),
    ("color_jitter", Augment(**STILL, color_jitter=ColorJitter(probability=1.0))),
    ("rand_augment", Augment(**STILL, rand_augment=RandAugment(operations=3))),
    ("trivial_augment", Augment(**STILL, trivial_augment=True)),
)
AUGMENTS = pytest.mark.parametrize("augment", [one for _, one in NAMED], ids=[name for name, _ in NAMED])


@AUGMENTS
def test_named_changes_change_images_by_the_seed_alone(augment: Augment) -> None:
    pixels = images(12, 16)
    torch.manual_seed(0)
    first = augmented(pixels, augment, (1, 2, 3))
    state = torch.get_rng_state()
    assert torch.equal(augmented(pixels, augment, (1, 2, 3)), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(augmented(pixels, augment, (1, 2, 4)), first)
    assert sum(not torch.equal(a, b) for a, b in zip(pixels, first, strict=True)) >= 6
    assert (first.shape, first.dtype) == (pixels.shape, torch.uint8)
    assert torch.equal(pixels, images(12, 16))


@AUGMENTS
def test_what_becomes_of_an_image_does_not_depend_on_who_has_it(augment: Augment) -> None:
    pixels, whole = images(12, 16), augment.model_copy(update={"pad": 2, "flip": True})
    together = augmented(pixels, whole, (1, 2, 3))
    for workers in (2, 3):
        for rank in range(workers):
            places = np.arange(rank, 12, workers)
            assert torch.equal(augmented(pixels, whole, (1, 2, 3), places=places), together[rank::workers])
    backwards = augmented(pixels, whole, (1, 2, 3), places=np.arange(12)[::-1].copy())
    assert torch.equal(backwards, together.flip(0))


def test_equal_images_at_other_places_become_others() -> None:
    pixels = images(1, 16).repeat(8, 1, 1, 1)
    found = augmented(pixels, NAMED[0][1], (5,))
    assert len({image.numpy().tobytes() for image in found}) == 8


def test_values_have_an_effect() -> None:
    pixels = images(6, 16)
    whole = RandomResizedCrop(scale=(1.0, 1.0), ratio=(1.0, 1.0))
    assert torch.equal(augmented(pixels, Augment(**STILL, random_resized_crop=whole), (0,)), pixels)
    small = RandomResizedCrop(scale=(0.05, 0.1), ratio=(1.0, 1.0))
    enlarged = augmented(pixels, Augment(**STILL, random_resized_crop=small), (0,))

    def roughness(them: torch.Tensor) -> float:
        return float(them.float().diff(dim=-1).abs().mean())

    assert roughness(enlarged) < 0.6 * roughness(pixels)  # a few pixels of noise, enlarged, are smooth
    never = Augment(**STILL, color_jitter=ColorJitter(probability=0.0))
    assert torch.equal(augmented(pixels, never, (0,)), pixels)
    bright = ColorJitter(brightness=0.5, contrast=0.0, saturation=0.0, hue=0.0, probability=1.0)
    gray = torch.full((6, 3, 8, 8), 100, dtype=torch.uint8)
    found = augmented(gray, Augment(**STILL, color_jitter=bright), (0,))
    assert all(len(image.unique()) == 1 for image in found)  # brightness alone keeps gray gray
    assert 50 <= int(found.min()) < int(found.max()) <= 150
    weak, strong = (
        augmented(images(24, 16), Augment(**STILL, rand_augment=RandAugment(operations=1, magnitude=m)), (0,))
        for m in (0, 30)
    )
    assert not torch.equal(weak, strong)
