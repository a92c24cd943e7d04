"""Checks that all detectors share."""

import pytest
import torch

from sisom import Head, build_detector, errors
from tests.support import open_world
from tests.support.detector_rows import features

HEAD = open_world.head()


@pytest.fixture(scope="module")
def fitted():
    return open_world.make(60, seed=0, noise=1.2)


@pytest.mark.parametrize(
    "name", ["react", "ash-b", "dice", "fdbd", "vim", "knn", "mahalanobis", "relative-mahalanobis", "she"]
)
def test_features_and_heads_of_other_nets_are_refused(name, fitted):
    detector = build_detector(name, head=HEAD)
    with pytest.raises(errors.ShapeMismatch):
        detector.score(detector.fit(*fitted), features([[0.0]], [[0.0] * 4]))
    if "head" in detector.needs:
        with pytest.raises(errors.ShapeMismatch, match="a head of shape"):
            build_detector(name, head=Head(torch.zeros(4, 3), torch.zeros(4))).fit(*fitted)
