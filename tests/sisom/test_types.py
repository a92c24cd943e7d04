"""Features, scores and queries as values."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sisom import Candidates, Features, Labeled, Scores, errors, fit_bank, score
from tests.support import open_world


@pytest.fixture(scope="module")
def pool():
    return open_world.make_pool()


@pytest.fixture(scope="module")
def labeled():
    return open_world.make_labeled()


def test_candidates_and_labels_that_do_not_fit(pool, labeled):
    with pytest.raises(errors.ShapeMismatch, match="40 ids for 3 rows of features"):
        Candidates(pool.ids, features=pool.features.select([0, 1, 2]))
    with pytest.raises(errors.ShapeMismatch):
        Labeled(labeled.features, labeled.labels[1:], 4)
    with pytest.raises(errors.LabelError):
        Labeled(None, torch.tensor([0, 4]), 4)
    assert Labeled(None, torch.tensor([2, 0, 2]), 4).counts() == {0: 1, 1: 0, 2: 2, 3: 0}


@pytest.fixture(params=["sample", "anchor"])
def bank(request, make):
    fit, labels = make(50)
    return replace(fit_bank(fit, labels, slopes=1.0, subset=0.6, outer=request.param), threshold=1.25)


def test_features_travel(make):
    fit, _ = make(12)
    arrays = fit.to_arrays()
    arrays["saliency"].setflags(write=False)
    back = Features.from_arrays(arrays, [["a", 3], ["b", 5]])
    assert back.layer_dims == fit.layer_dims and torch.equal(back.saliency, fit.saliency)
    joined = Features.concat([fit.select(slice(0, 5)), fit.select(torch.arange(5, 12))])
    assert len(joined) == 12 and torch.equal(joined.logits, fit.logits)
    with pytest.raises(errors.ShapeMismatch):
        Features.concat([fit, Features(fit.saliency, (("c", 8),), fit.penultimate, fit.logits)])
    with pytest.raises(errors.EmptyInput):
        Features.concat([])


def test_scores_travel(bank, make):
    pool, _ = make(12, seed=2)
    found = score(bank, pool)
    joined = Scores.concat([found.select([0, 1]), found.select(torch.arange(2, 12))])
    assert all(np.array_equal(v, joined.to_arrays()[k]) for k, v in found.to_arrays().items())
    with pytest.raises(errors.EmptyInput):
        Scores.concat([])
