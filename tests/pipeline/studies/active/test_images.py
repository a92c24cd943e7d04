"""Initial labels and seeds of a study's rounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.learn.seeds import member_seed, round_seed
from pipeline.studies.active.config import ActiveStudy
from pipeline.studies.active.images import StudyImages, initial_rows
from pipeline.studies.kinds import load_study

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIGS = Path(__file__).parents[4] / "configs"


def images_of(truth: np.ndarray, classes: int) -> StudyImages:
    n = len(truth)
    ids = tuple(f"i{k:04d}" for k in range(n))
    pixels = np.zeros((n, 3, 8, 8), np.uint8)
    return StudyImages(ids, pixels, truth, pixels[:1], truth[:1], tuple(map(str, range(classes))), None)


def test_initial_labels_are_balanced_and_of_known_classes() -> None:
    config = load_study(CONFIGS / "al_digits.yaml", ["initial=22", "open_set={known: 0.5}"])
    assert isinstance(config, ActiveStudy)
    truth = np.asarray([0] * 90 + [1] * 9 + [2] * 60 + [3] * 60 + [-1] * 30, np.int64)
    images = images_of(truth, 4)
    rows = initial_rows(images, config, 0)
    assert np.bincount(truth[rows], minlength=4).tolist() == [
        13,
        9,
        0,
        0,
    ]  # a class that runs out leaves its turns
    assert len(set(rows.tolist())) == 22
    assert rows.tolist() == initial_rows(images, config, 0).tolist()
    assert rows.tolist() != initial_rows(images, config, 1).tolist()
    assert len({member_seed(round_seed(s, r), m) for s in range(4) for r in range(4) for m in range(3)}) == 48
