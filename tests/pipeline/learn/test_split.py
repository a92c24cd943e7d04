"""Held-out rows and folds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sisom
from pipeline.learn.split import folds, held_out
from tests.support import open_world

pytestmark = pytest.mark.usefixtures("one_thread")


@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    share=st.sampled_from([0.0, 0.1, 0.25, 0.5]),
    seed=st.integers(0, 3),
)
def test_a_share_of_each_class_is_held_out(sizes: list[int], share: float, seed: int) -> None:
    targets = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    ids = [f"id{n}" for n in range(len(targets))]
    chosen = held_out(targets, ids, share, seed=seed)
    for target, size in enumerate(sizes):
        count = int(chosen[targets == target].sum())
        assert count == (max(round(share * size), 1) if share and size >= 4 else 0)
        assert size == 0 or count < size
    # The same ids, whatever order the rows have.
    order = np.random.default_rng(seed).permutation(len(ids))
    again = held_out(targets[order], [ids[i] for i in order], share, seed=seed)
    assert (again == chosen[order]).all()


def test_the_seed_chooses_who_is_held_out() -> None:
    targets, ids = np.zeros(100, np.int32), [f"{n:03d}" for n in range(100)]
    first = held_out(targets, ids, 0.2, seed=1)
    assert (held_out(targets, ids, 0.2, seed=1) == first).all()
    assert (held_out(targets, ids, 0.2, seed=2) != first).any()


def test_new_labels_move_few_rows_between_training_and_validation() -> None:
    """A net that is trained further may not be judged by rows that it learned from."""
    ids = [f"img-{n}" for n in range(400)]
    early = held_out(np.zeros(200, np.int32), ids[:200], 0.2, seed=7)
    late = held_out(np.zeros(400, np.int32), ids, 0.2, seed=7)
    before = {name for name, held in zip(ids[:200], early, strict=True) if held}
    after = {name for name, held in zip(ids, late, strict=True) if held}
    assert len(before) == 40 and len(after) == 80
    # The 40 smallest hashes of the first 200 are still small among 400: about the smallest fifth of both.
    assert len(before & after) >= 30


def test_folds_hold_every_row_once_and_each_class_in_equal_shares() -> None:
    targets = torch.tensor([0] * 11 + [1] * 7 + [2])
    parts = folds(targets)
    assert sorted(torch.cat(parts).tolist()) == list(range(19))
    for c, most, least in ((0, 3, 2), (1, 2, 1)):
        counts = [int((targets[part] == c).sum()) for part in parts]
        assert (max(counts), min(counts)) == (most, least)
    assert [part.tolist() for part in folds(torch.tensor([3, 4]))] == [[0], [1]]


@pytest.mark.slow
def test_a_threshold_by_folds_is_that_of_new_rows() -> None:
    """Fitted rows look less strange than new ones to a detector that has seen them; rows left out do not."""
    detector = sisom.build_detector("sisom-fused", slopes=10.0, k=3)
    marked: dict[str, list[float]] = {"seen": [], "unseen": []}
    for world in range(16):  # in a single one the outermost of 48 rows decides
        features, targets = open_world.make(48, seed=world, noise=1.2)
        seen = detector.score(detector.fit(features, targets), features)
        unseen = torch.empty(48)
        for part in folds(targets):
            others = torch.ones(48, dtype=torch.bool)
            others[part] = False
            state = detector.fit(features.select(others), targets[others])
            unseen[part] = detector.score(state, features.select(part))
        rows = open_world.make(400, seed=100 + world, noise=1.2)[0]
        new = detector.score(detector.fit(features, targets), rows)
        for name, told in (("seen", seen), ("unseen", unseen)):
            marked[name].append(float((new > told.quantile(0.95)).float().mean()))
    assert np.mean(marked["unseen"]) < 0.1 < 0.3 < np.mean(marked["seen"])
