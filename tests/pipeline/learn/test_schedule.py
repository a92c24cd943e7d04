"""The training schedule: steps and learning rates."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.learn.schedule import learning_rate, steps

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
