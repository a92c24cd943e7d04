"""Thresholds, p-values and filters, by hand and by resampling."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from sisom import confidence, errors, is_ood, p_values, threshold
from sisom.verdicts import FEWEST_ANSWERS, best_filter, far_filter


def test_threshold_by_hand():
    scores = torch.arange(1.0, 100.0)  # 99 scores: the 95th of 100 places
    assert threshold(scores) == 95.0
    assert threshold(scores, keep=1.0) == 99.0
    assert threshold(scores[:5], keep=0.5) == 3.0
    assert threshold(torch.tensor([2.0])) == 2.0
    assert is_ood(torch.tensor([94.9, 95.0, 95.1]), 95.0).tolist() == [False, False, True]


@pytest.mark.parametrize("n", [1, 2, 7, 19, 20, 39, 100, 333])
@pytest.mark.parametrize("keep", [0.5, 0.9, 0.95, 0.999])
def test_at_least_the_share_is_kept(n, keep):
    scores = torch.randn(n, generator=torch.Generator().manual_seed(n)).round(decimals=1)
    assert float((~is_ood(scores, threshold(scores, keep))).double().mean()) >= keep


def test_false_alarms_stay_below_what_was_asked():
    g = torch.Generator().manual_seed(0)
    alarms, low = [], []
    for _ in range(400):
        known, new = torch.randn(59, generator=g), torch.randn(200, generator=g)
        alarms.append(is_ood(new, threshold(known, 0.9)).double().mean())
        low.append((p_values(known, new) <= 0.1).double().mean())
    assert float(torch.stack(alarms).mean()) <= 0.1 + 0.01
    assert float(torch.stack(low).mean()) <= 0.1 + 0.01


def test_p_values_by_hand():
    known = torch.tensor([1.0, 2.0, 2.0, 3.0])
    assert p_values(known, torch.tensor([0.0, 2.0, 2.5, 9.0])).tolist() == [1.0, 0.8, 0.4, 0.2]


def test_confidence_turns_the_sign():
    assert confidence(torch.tensor([1.0, -2.0])).tolist() == [-1.0, 2.0]


@pytest.mark.parametrize("call", [threshold, lambda s: p_values(s, torch.zeros(1))])
def test_refusals(call):
    with pytest.raises(errors.EmptyInput):
        call(torch.zeros(0))
    with pytest.raises(errors.NonFinite):
        call(torch.tensor([0.0, torch.nan]))
    with pytest.raises(errors.InputError):
        threshold(torch.zeros(3), keep=0.0)


# ------------------------------------------------------------------------------------------ the open-set filter


def slow_filter(far, rest):
    """Every far energy as a threshold, one after another: all best ones, and their index."""
    if min(len(far), len(rest)) < FEWEST_ANSWERS:
        return [None], None
    index = {
        limit: sum(x >= limit for x in far) / len(far) - sum(x >= limit for x in rest) / len(rest)
        for limit in far.tolist()
    }
    most = max(index.values())
    return [limit for limit in index if index[limit] > most - 1e-12] if most > 1e-12 else [None], most


def test_the_open_set_filter_by_hand():
    far, rest = np.array([2.0, 4.0, 6.0, 8.0, 9.0]), np.array([0.0, 1.0, 3.0, 5.0, 7.0])
    # At 2: 5/5 - 3/5; at 4: 4/5 - 2/5; at 6: 3/5 - 1/5; at 8: 2/5 - 0: all equal, and 8 calls the fewest far.
    limit, index = far_filter(far, rest)
    assert limit == 8.0
    assert index == pytest.approx(0.4)
    assert (
        far_filter(far[:4], rest)
        == far_filter(far, rest[:4])
        == far_filter(far[:0], rest[:0])
        == (None, None)
    )
    assert far_filter(np.ones(5), np.full(5, 5.0)) == (None, 0.0)  # far below the rest: no better than chance
    assert far_filter(rest, far)[0] is None


def drawn(seed):
    """Energies of two sides with many ties, some apart and some the wrong way round."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 20, 2)
    far, rest = (rng.integers(-4, 5, size).astype(np.float64) for size in sizes)
    return far + rng.integers(-1, 3), rest


@pytest.mark.parametrize("seed", range(300))
def test_the_filter_against_a_slow_loop(seed):
    far, rest = drawn(seed)
    limit, index = far_filter(far, rest)
    best, most = slow_filter(far, rest)
    assert limit in best  # of shares that are equal but for rounding, any
    assert index == (None if most is None else pytest.approx(most))


@pytest.mark.parametrize("seed", range(50))
def test_the_filter_moves_with_the_energies_and_looks_at_no_order(seed):
    far, rest = drawn(seed)
    limit, index = far_filter(far, rest)
    assert far_filter(far[::-1], np.random.default_rng(0).permutation(rest)) == (limit, index)
    moved = None if limit is None else 2 * limit + 64
    assert far_filter(2 * far + 64, 2 * rest + 64) == (moved, index)  # exact in float64
    assert far_filter(far.astype(np.float32), rest.astype(np.float32)) == (limit, index)


def f32(*values: float) -> Any:
    return np.asarray(values, np.float32)


def test_the_filter_by_hand() -> None:
    assert best_filter(f32(5, 6, 7), f32(1, 2, 3)) == (5.0, 1.0)
    # At 2: 3/3 - 2/4; at 4: 2/3 - 1/4; at 6: 1/3 - 0. The first is best.
    threshold, youden = best_filter(f32(2, 4, 6), f32(0, 1, 3, 5))
    assert (threshold, youden) == (2.0, 0.5)
    assert best_filter(f32(1, 2), f32(3, 4)) == (None, 0.0)  # no better than chance


def test_ties_call_less_far() -> None:
    # At 1: 2/2 - 1/2; at 3: 1/2 - 0: equal, and 3 is higher.
    assert best_filter(f32(1, 3), f32(0, 2)) == (3.0, 0.5)


@given(
    far=st.lists(st.integers(-5, 5), min_size=1, max_size=20),
    rest=st.lists(st.integers(-5, 5), min_size=1, max_size=20),
)
def test_the_index_is_the_best_of_the_roc_curve(far: list[int], rest: list[int]) -> None:
    """Against scikit-learn's curve over all thresholds, not only those at far answers."""
    truth = [1] * len(far) + [0] * len(rest)
    fpr, tpr, _ = roc_curve(truth, [*far, *rest], drop_intermediate=False)
    threshold, youden = best_filter(f32(*far), f32(*rest))
    best = float((tpr - fpr).max())
    assert (threshold is None) == (best <= 1e-12)
    if threshold is not None:
        assert youden == pytest.approx(best)
        hit = np.mean([value >= threshold for value in far]) - np.mean([value >= threshold for value in rest])
        assert hit == pytest.approx(best)
