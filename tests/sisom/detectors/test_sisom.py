"""SISOM as a detector."""

import pytest
import torch

from sisom import Features, build_detector, fit_bank
from sisom import score as bank_score
from tests.support import open_world


@pytest.fixture(scope="module")
def fitted():
    return open_world.make(60, seed=0, noise=1.2)


@pytest.fixture(scope="module")
def queries():
    near, far = open_world.make(20, seed=1, noise=1.2)[0], open_world.make(20, seed=1, far=True)[0]
    return Features.concat([near, far])


def test_the_energy_is_that_of_the_scores(fitted, queries):
    bank = fit_bank(*fitted, slopes=1.0)
    assert torch.equal(build_detector("energy").score((), queries), bank_score(bank, queries).energy)
