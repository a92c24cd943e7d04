"""CoreSet against the plain loop and against scikit-activeml."""

import numpy as np
import pytest
import torch

from sisom.selectors.blocks import pick_greedily
from sisom.selectors.coreset import KCenterBlock
from tests.support.selector_rows import gaussian, known, picks, rows


def farthest_first(pool, centers, k):
    """The plain loop, in float64."""
    near = np.min([np.linalg.norm(pool - center, axis=1) for center in centers], axis=0)
    chosen = []
    for _ in range(k):
        best = int(np.argmax(near))
        chosen.append(best)
        near = np.minimum(near, np.linalg.norm(pool - pool[best], axis=1))
        near[best] = -1
    return chosen


def test_coreset_by_hand():
    pool = rows([[0.0], [1.0], [9.0], [4.0], [5.0]])
    assert picks("coreset", pool, known([[0.0]], [0]), k=5) == [2, 3, 1, 4, 0]  # 4 before 5: the lower id


@pytest.mark.parametrize("width", [2, 30])
def test_coreset_equals_the_plain_loop(width):
    pool, labeled = gaussian(400, width, 0), gaussian(30, width, 1)
    found = picks("coreset", rows(pool), known(labeled, [0] * 30), k=60)
    assert found == farthest_first(pool.double().numpy(), labeled.double().numpy(), 60)


def test_coreset_equals_scikit_activeml():
    core_set = pytest.importorskip("skactiveml.pool").CoreSet
    pool, labeled = gaussian(300, 16, 2), gaussian(20, 16, 3)
    x = torch.cat([labeled, pool]).numpy()
    y = np.r_[np.zeros(20), np.full(300, np.nan)]
    theirs = core_set(random_state=0).query(x, y, batch_size=40) - 20
    assert picks("coreset", rows(pool), known(labeled, [0] * 20), k=40) == theirs.tolist()


def test_coreset_without_labels_starts_at_random():
    pool = rows(gaussian(50, 3, 4))
    first = {picks("coreset", pool, k=1, seed=seed)[0] for seed in range(40)}
    assert len(first) > 15
    for seed in range(3):
        found = picks("coreset", pool, k=8, seed=seed)
        h = pool.features.penultimate.double().numpy()
        assert found[1:] == farthest_first(h, h[found[:1]], 8)[:7]


@pytest.mark.parametrize("cut", [3, 7])
@pytest.mark.parametrize("labels", [0, 12])
def test_coreset_in_blocks_picks_the_same(cut, labels):
    pool, centers = gaussian(500, 20, 5), gaussian(labels, 20, 6) if labels else None
    pool[100:120] = pool[7]  # copies
    whole = KCenterBlock([f"{i:04d}" for i in range(500)], pool, centers, seed=3)
    expected = [row for _, row in pick_greedily([whole], 35)]
    places = [list(range(start, 500, cut)) for start in range(cut)]
    blocks = [KCenterBlock([f"{i:04d}" for i in place], pool[place], centers, seed=3) for place in places]
    found = [places[block][row] for block, row in pick_greedily(blocks, 35)]
    assert found == expected
    for place, block in zip(places, blocks, strict=True):
        assert torch.equal(block.distances, whole.distances[place])


def test_labels_at_once_or_one_by_one_are_the_same():
    """The search by matrix products and the pairs measured one by one agree to the last bit."""
    pool, centers = gaussian(200, 33, 7), gaussian(9, 33, 8)
    ids = [f"{i:04d}" for i in range(200)]
    at_once, one_by_one = (KCenterBlock(ids, pool, given, seed=0) for given in (centers, None))
    for center in centers:
        one_by_one.add(type(one_by_one.points)(center[None]))
    assert torch.equal(at_once.distances, one_by_one.distances)
