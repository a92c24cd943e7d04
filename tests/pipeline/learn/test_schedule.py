"""The training schedule: steps, crops and learning rates."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.training import Augment
from pipeline.learn.schedule import augmented, learning_rate, steps

# --------------------------------------------------------------------------------------------------- steps


def epoch(rows: int, batch: int, workers: int, seed: int = 0, number: int = 0) -> list[list[int]]:
    found = steps(np.arange(100, 100 + rows), batch, workers, seed=seed, epoch=number)
    return [step.tolist() for step in found]


@settings(max_examples=200)
@given(
    rows=st.integers(1, 200),
    batch=st.integers(2, 40),
    workers=st.integers(1, 4),
    seed=st.integers(0, 3),
    number=st.integers(0, 3),
)
def test_an_epoch_shows_rows_once_and_every_worker_two_at_least(
    rows: int, batch: int, workers: int, seed: int, number: int
) -> None:
    found = epoch(rows, batch, workers, seed, number)
    shown = Counter(itertools.chain(*found))
    assert found
    for step, rank in itertools.product(found, range(workers)):
        assert len(step[rank::workers]) >= 2  # batch normalisation has no variance in one row
    if rows >= 2 * workers:
        assert shown == Counter(range(100, 100 + rows))
        assert max(map(len, found)) - min(map(len, found)) <= 1
    else:
        assert set(shown) == set(range(100, 100 + rows))  # too few rows: all of them, repeated
        assert len(found) == 1


@given(groups=st.integers(1, 6), batch=st.integers(8, 32), seed=st.integers(0, 5))
def test_the_number_of_workers_changes_no_step(groups: int, batch: int, seed: int) -> None:
    """Where batches come out even; the union of what the ranks take is the batch itself."""
    alone = epoch(groups * batch, batch, 1, seed)
    for workers in (2, 3, 4):
        together = epoch(groups * batch, batch, workers, seed)
        assert together == alone
        for step in together:
            assert sorted(itertools.chain(*[step[rank::workers] for rank in range(workers)])) == sorted(step)


def test_seed_and_epoch_decide_the_order() -> None:
    assert epoch(50, 8, 1, 1, 2) == epoch(50, 8, 1, 1, 2)
    assert epoch(50, 8, 1, 1, 2) != epoch(50, 8, 1, 1, 3)
    assert epoch(50, 8, 1, 1, 2) != epoch(50, 8, 1, 2, 2)


# ----------------------------------------------------------------------------------------------- augmented


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


# ------------------------------------------------------------------------------------------- learning rate


@given(total=st.integers(1, 500), peak=st.floats(1e-4, 10.0))
def test_learning_rate_rises_to_its_peak_and_falls(total: int, peak: float) -> None:
    rates = [learning_rate(step, total, peak) for step in range(total)]
    assert all(0.0 < rate <= peak * (1 + 1e-12) for rate in rates)
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(peak)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_learning_rate_by_hand() -> None:
    # 40 steps: two of warm-up, then a cosine over 38, whose middle is step 2 + 19.
    assert learning_rate(0, 40, 0.2) == pytest.approx(0.1)
    assert learning_rate(1, 40, 0.2) == pytest.approx(0.2)
    assert learning_rate(2, 40, 0.2) == pytest.approx(0.2)
    assert learning_rate(21, 40, 0.2) == pytest.approx(0.1)
    assert learning_rate(39, 40, 0.2) == pytest.approx(0.1 * (1 + math.cos(math.pi * 37 / 38)))
