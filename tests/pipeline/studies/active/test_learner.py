"""Networks of an active-learning study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config.sections import Storage
from pipeline.studies.active.config import ActiveStudy
from pipeline.studies.active.images import StudyImages
from pipeline.studies.active.learner import Learner
from pipeline.studies.kinds import load_study
from pipeline.studies.lab.cells import Bench

CONFIG = Path(__file__).parents[4] / "configs" / "al_digits.yaml"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Layers this small are only slowed down by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def learner(*overrides: str) -> Learner:
    config = load_study(CONFIG, ["train.epochs=1", "model.image_size=8", *overrides])
    assert isinstance(config, ActiveStudy)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (40, 3, 8, 8)).astype(np.uint8)
    truth = np.concatenate([np.arange(30, dtype=np.int64) % 3, np.full(10, -1, np.int64)])
    ids = tuple(f"i{n:02d}" for n in range(40))
    images = StudyImages(ids, pixels, truth, pixels[:30], truth[:30], ("a", "b", "c"), None)
    return Learner(config, images, Bench("unused", "unused", Storage(), "cpu", config.compute))


OPEN = "open_set={known: 0.7, promote: 4, exposure: 0.5}"


def test_a_closed_study_knows_all_classes_and_an_open_one_those_that_joined() -> None:
    rows = np.asarray([0, 1, 3, 4])
    assert learner().known(rows).tolist() == [0, 1, 2]
    assert learner(OPEN).known(rows).tolist() == [0, 1]
    assert learner(OPEN).known(np.asarray([0, 1, 2, 5, 8, 11])).tolist() == [0, 1, 2]


def test_weights_follow_from_rows_and_seed() -> None:
    told, rows = learner(), np.arange(12)
    first = told.train(rows, seed=3)
    assert told.train(rows, seed=3) == first
    assert told.train(rows, seed=4) != first
    assert told.train(rows[:-1], seed=3) != first


def test_labeled_far_images_teach_where_the_rules_say_so() -> None:
    rows, far = np.arange(12), np.asarray([30, 31])
    both = np.concatenate([rows, far])
    assert learner(OPEN).train(both, seed=3) != learner(OPEN).train(rows, seed=3)
    silent = OPEN.replace("exposure: 0.5", "exposure: 0")
    assert learner(silent).train(both, seed=3) == learner(silent).train(rows, seed=3)


def test_accuracy_by_hand() -> None:
    class First(torch.nn.Module):
        """Always the first known class."""

        def __init__(self) -> None:
            super().__init__()
            self.place = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            """Logits."""
            return torch.tensor([[1.0, 0.0, 0.0]]).repeat(len(images), 1)

    closed = learner()
    assert closed.accuracy(First(), np.asarray([0, 1, 2])) == pytest.approx(1 / 3)
    images = replace(closed.images, test_truth=np.asarray([1] * 20 + [0] * 10))
    opened = Learner(learner(OPEN).config, images, closed.bench)
    assert opened.accuracy(First(), np.asarray([0, 1])) == pytest.approx(1 / 3)  # the mean over three classes
    assert closed.named(np.asarray([2, 39])) == {"labeled": ["i02", "i39"]}
