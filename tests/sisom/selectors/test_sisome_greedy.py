"""Greedy queries against full recomputation, and levelled classes."""

from dataclasses import replace

import pytest
import torch

from sisom import Labeled, errors, fit_bank, greedy, score
from sisom.bank.enhance import enhance
from tests.support import open_world
from tests.support.selector_rows import picks

SLOPES = {"a": 0.8, "b": 1.5}


def names(n):
    return [f"{(i * 13) % n:03d}" for i in range(n)]


def recomputed(bank, pool, ids, k, by):
    """Score everything again after each pick, with the pick appended to the bank under its predicted class."""
    picks, left = [], list(range(len(pool)))
    for _ in range(k):
        found = score(bank, pool.select(left))
        values = getattr(found, by).tolist()
        place = min(range(len(left)), key=lambda i: (-values[i], ids[left[i]]))
        row = left.pop(place)
        picks.append((row, values[place]))
        points = torch.cat([bank.points, enhance(pool.saliency[[row]], pool.layer_dims, bank.slopes)])
        labels = torch.cat([bank.labels, found.predicted[[place]]])
        order = labels.argsort(stable=True)
        bank = replace(
            bank,
            points=points[order],
            labels=labels[order],
            source=torch.arange(len(labels)),
            energies=torch.zeros(len(labels)),
        )
    return picks


@pytest.mark.parametrize("by", ["sisom", "sisome"])
@pytest.mark.parametrize("seed", range(3))
def test_greedy_equals_full_recomputation(make, by, seed):
    fit, labels = make(60, seed=seed)
    pool, _ = make(50, seed=seed + 10, spread=1.5)
    bank = fit_bank(fit, labels, slopes=SLOPES, r_avg=0.3)
    rows, values = greedy(bank, pool, names(50), k=20, by=by)
    expected = recomputed(bank, pool, names(50), 20, by)
    assert rows.tolist() == [row for row, _ in expected]
    assert values.tolist() == pytest.approx([value for _, value in expected], rel=1e-6)


def test_greedy_gives_a_missing_class_its_first_point(make):
    fit, labels = make(60)
    pool, _ = make(50, seed=3, spread=1.5)
    known = labels != 3
    bank = fit_bank(fit.select(known.nonzero().flatten()), labels[known], slopes=SLOPES)
    rows, _ = greedy(bank, pool, names(50), k=12, by="sisom")
    assert rows.tolist() == [row for row, _ in recomputed(bank, pool, names(50), 12, "sisom")]
    assert int(pool.logits.argmax(1)[rows[0]]) == 3


def test_greedy_spreads_over_copies(make):
    """Two hundred copies of the strangest row are one question, not two hundred."""
    fit, labels = make(60)
    pool, _ = make(30, seed=4, spread=1.5)
    bank = fit_bank(fit, labels, slopes=SLOPES)
    strangest = int(score(bank, pool).sisom.argmax())
    crowd = pool.select(list(range(30)) + [strangest] * 200)
    rows, _ = greedy(bank, crowd, names(230), k=5, by="sisom")
    points = crowd.saliency[rows]
    assert len({tuple(row.tolist()) for row in points}) == 5


def test_greedy_refusals(make):
    fit, labels = make(40)
    bank = fit_bank(fit, labels, slopes=SLOPES)
    with pytest.raises(errors.BudgetTooLarge):
        greedy(bank, fit, names(40), k=41)
    with pytest.raises(errors.ShapeMismatch):
        greedy(bank, fit, names(39), k=1)
    with pytest.raises(errors.InputError, match="by must be"):
        greedy(bank, fit, names(40), k=1, by="energy")
    for options in ({"outer": "anchor"}, {"rank": 2}, {"neighbors": 2}):
        with pytest.raises(errors.InputError, match="needs a bank"):
            greedy(fit_bank(fit, labels, slopes=SLOPES, **options), fit, names(40), k=1)
    rows, values = greedy(bank, fit, names(40), k=0)
    assert len(rows) == len(values) == 0


def test_sisome_greedy_is_the_library_function():
    pool, labeled = open_world.make_pool(), open_world.make_labeled()
    bank = fit_bank(labeled.features, labeled.labels, slopes=1.0)
    expected = greedy(bank, pool.features, pool.ids, k=9)[0].tolist()
    assert picks("sisome-greedy", pool, labeled, k=9) == expected
    with pytest.raises(errors.EmptyInput):
        picks("sisome-greedy", pool, Labeled(labeled.features.select([]), labeled.labels[:0], 4), k=1)
