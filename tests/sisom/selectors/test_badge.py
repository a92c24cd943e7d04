"""BADGE against all distances and against scikit-activeml."""

import numpy as np
import pytest
import torch

from sisom import Candidates
from sisom.selectors.badge import BadgeBlock, Gradients
from sisom.selectors.blocks import Race, pick_greedily
from tests.support.selector_rows import features, gaussian, picks, rows

# --------------------------------------------------------------------------------------------------- BADGE


def embeddings(found):
    """The n x K p matrix that BADGE is about."""
    p = torch.softmax(found.logits.double(), dim=1)
    pull = p - torch.nn.functional.one_hot(p.argmax(1), p.shape[1])
    return (pull[:, :, None] * found.penultimate.double()[:, None, :]).flatten(1)


@pytest.fixture(scope="module")
def gradients():
    return features(gaussian(120, 5, 9), 2 * gaussian(120, 4, 10))


def test_badge_distances_are_those_of_the_outer_products(gradients):
    block = BadgeBlock([f"{i:04d}" for i in range(120)], Gradients.of(gradients), seed=0)
    full = embeddings(gradients)
    first = block.farthest().row
    assert first == int(full.norm(dim=1).argmax())
    block.add(block.take(first))
    taken = [first]
    for _ in range(5):
        taken.append(block.farthest().row)
        block.add(block.take(taken[-1]))
    assert len(set(taken)) == 6
    centers = full[taken]
    expected = torch.cdist(full, centers, compute_mode="donot_use_mm_for_euclid_dist").amin(1).square()
    assert torch.allclose(block.distances, expected, rtol=1e-4, atol=1e-6)
    assert bool((block.distances[taken] == 0).all())
    while (pick := block.farthest()) is not None:
        taken.append(pick.row)
        block.add(block.take(pick.row))
    assert sorted(taken) == list(range(120)), "each once, then nobody is left"


@pytest.mark.parametrize("seed", range(5))
def test_badge_equals_the_race_over_all_distances(gradients, seed):
    """Every distance to every pick, from the outer products themselves, and the winner of each race."""
    ids = [f"{i:04d}" for i in range(120)]
    full, race = embeddings(gradients), Race(ids, seed)
    squared = torch.cdist(full, full, compute_mode="donot_use_mm_for_euclid_dist").square()
    expected = [int(full.norm(dim=1).argmax())]
    for step in range(1, 30):
        near = squared[:, expected].amin(1) * race.rates(step)
        near[expected] = -1
        expected.append(int(near.argmax()))
    assert picks("badge", Candidates(ids, features=gradients), k=30, seed=seed) == expected


def test_badge_agrees_with_scikit_activeml(gradients):
    """The first pick, and the squared distances to it; theirs keeps the origin as a center, so the draws differ."""
    badge = pytest.importorskip("skactiveml.pool").Badge
    from skactiveml.base import SkactivemlClassifier

    class Fixed(SkactivemlClassifier):
        def __init__(self):
            super().__init__(classes=[0, 1, 2, 3])

        def fit(self, X, y):
            return self

        def predict_proba(self, X, with_embeddings=False):
            which = X[:, 0].astype(int)
            probabilities = torch.softmax(gradients.logits.double(), 1).numpy()[which]
            return (probabilities, gradients.penultimate.numpy()[which])

    x, y = np.arange(120.0)[:, None], np.full(120, np.nan)
    query = badge(random_state=0, clf_embedding_flag_name="with_embeddings").query
    chosen, chances = query(x, y, Fixed(), fit_clf=False, batch_size=2, return_utilities=True)
    block = BadgeBlock([f"{i:04d}" for i in range(120)], Gradients.of(gradients), seed=0)
    first = block.farthest().row
    assert first == int(chosen[0])
    lengths = block.points.squared
    block.add(block.take(first))
    ours = torch.minimum(lengths, block.distances)
    others = torch.arange(120) != first
    expected = torch.from_numpy(chances[1])[others]
    assert torch.allclose((ours / ours.sum())[others], expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("cut", [3, 7])
def test_badge_in_blocks_picks_the_same(cut):
    found = features(gaussian(400, 9, 13), gaussian(400, 5, 14))
    found = found.select([*range(380), *[5] * 20])  # copies
    everything = Gradients.of(found)
    ids = [f"{i:04d}" for i in range(400)]
    expected = [row for _, row in pick_greedily([BadgeBlock(ids, everything, seed=2)], 40)]
    places = [list(range(start, 400, cut)) for start in range(cut)]
    blocks = [
        BadgeBlock([ids[i] for i in place], Gradients.of(found.select(place)), seed=2) for place in places
    ]
    assert [places[block][row] for block, row in pick_greedily(blocks, 40)] == expected


def test_badge_of_equal_rows_goes_by_id():
    pool = rows([[1.0, 2.0]] * 6, [[1.0, 0.0]] * 6, ids=list("fedcba"))
    assert picks("badge", pool, k=6) == [5, 4, 3, 2, 1, 0]
