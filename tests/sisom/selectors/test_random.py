"""Random draws."""

import pytest
import torch

from sisom import ROW_SELECTORS, Candidates
from tests.support import open_world


@pytest.fixture(scope="module")
def pool():
    return open_world.make_pool()


def test_random_draws_are_uniform_and_seeded():
    pool = Candidates([str(i) for i in range(4000)])
    draws = ROW_SELECTORS["random"]().priority_of(pool, seed=1)
    assert float(draws.min()) >= 0 and float(draws.max()) < 1
    assert abs(float(draws.mean()) - 0.5) < 0.02
    assert not torch.equal(draws, ROW_SELECTORS["random"]().priority_of(pool, seed=2))
