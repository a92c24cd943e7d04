"""NAC-UE by hand, and its options by layer."""

import pytest

from sisom import build_detector, errors
from tests.support import open_world
from tests.support.detector_rows import features, score


@pytest.fixture(scope="module")
def fitted():
    return open_world.make(60, seed=0, noise=1.2)


def test_coverage_by_hand():
    saliency = [[0.0], [0.0], [10.0]]
    fit = features(saliency, saliency=saliency)
    rows = features([[0.0]] * 3, saliency=[[0.0], [10.0], [-10.0]])
    assert score("nac-ue", fit, [0, 0, 1], rows, bins=4, enough=2) == [0.0, 0.5, 1.0]


def test_nac_options_by_layer(fitted):
    with pytest.raises(errors.InputError, match="layer 'avgpool'"):
        build_detector("nac-ue", bins={"layer3": 5}).fit(*fitted)
    detector = build_detector("nac-ue", bins={"layer3": 5, "avgpool": 9})
    with pytest.raises(errors.ShapeMismatch, match="layer3"):
        detector.score(detector.fit(*fitted), features([[0.0]], saliency=[[0.0]]))
