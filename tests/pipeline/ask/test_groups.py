"""Which of the novel images look alike."""

from __future__ import annotations

import numpy as np

from pipeline.ask.groups import grouped


def test_groups_are_directions_and_the_same_again() -> None:
    rng = np.random.default_rng(0)
    centers = np.eye(3, 8, dtype=np.float32)
    truth = np.repeat([0, 1, 2], [50, 6, 4])
    features = centers[truth] + rng.normal(0, 0.01, (60, 8)).astype(np.float32)
    features *= rng.uniform(0.1, 10, (60, 1)).astype(np.float32)  # how long they are says nothing
    found = grouped(features, 3, seed=1)
    assert len({(a, b) for a, b in zip(truth, found, strict=True)}) == 3
    assert (grouped(features, 3, seed=1) == found).all()


def test_fewer_different_images_than_groups() -> None:
    same = np.ones((4, 3), np.float32)
    assert set(grouped(same, 3, seed=0)) == {0}
    assert len(set(grouped(np.concatenate([same, -same, 0 * same]), 9, seed=0))) == 3
