"""Thinned banks: quotas, plain greedy picks, seeds."""

import pytest
import torch

from sisom import errors, fit_bank
from sisom.bank.subset import choose_rows, derived_radius, quotas

METHODS = ["random", "radius", "kcenter"]


def cloud(n=120, classes=3, d=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g), torch.arange(n) % classes


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("size", "each"), [(0.1, 4), (0.25, 10), (9, 3), (10, 4), (1, 1), (1.0, 40), (999, 40)]
)
def test_sizes(method, size, each):
    points, labels = cloud()
    rows, _ = choose_rows(points, labels, size=size, method=method)
    assert torch.bincount(labels[rows]).tolist() == [each] * 3
    assert bool((rows[1:] > rows[:-1]).all())


def test_quotas_of_unequal_classes():
    labels = torch.tensor([0] * 50 + [1] * 3 + [4])
    assert quotas(labels, 0.5) == {0: 9, 1: 3, 4: 1}
    assert quotas(labels, 0.01) == {0: 1, 1: 1, 4: 1}


@pytest.mark.parametrize("method", METHODS)
def test_seeds(method):
    points, labels = cloud()
    pick = lambda seed: choose_rows(points, labels, size=0.2, method=method, seed=seed)[0]  # noqa: E731
    assert torch.equal(pick(3), pick(3))
    if method == "random":
        assert not torch.equal(pick(3), pick(4))


def test_radius_picks_are_those_of_plain_greedy_coverage():
    points, labels = cloud(d=2)
    rows, used = choose_rows(points, labels, size=0.2, method="radius", radius=0.6)
    assert used == 0.6
    for c in range(3):
        members = (labels == c).nonzero().flatten()
        near = torch.cdist(points[members].double(), points[members].double()) < 0.6
        covered, expected = torch.zeros(len(members), dtype=torch.bool), set()
        for _ in range(8):
            gain = (near & ~covered).sum(1)
            if int(gain.max()) == 0:
                break
            best = int(gain.argmax())
            expected.add(int(members[best]))
            covered |= near[best]
        assert expected <= set(rows.tolist())


def test_a_full_cover_is_topped_up_at_random():
    points, labels = torch.zeros(30, 2), torch.arange(30) % 2
    rows, _ = choose_rows(points, labels, size=10, method="radius", radius=1.0)
    assert len(set(rows.tolist())) == 10


def test_kcenter_takes_the_farthest_and_copies_last():
    points = torch.tensor([[0.0], [0.1], [10.0], [10.0], [-4.0]])
    labels = torch.zeros(5, dtype=torch.int64)
    rows, _ = choose_rows(points, labels, size=3, method="kcenter")
    assert rows.tolist() == [0, 2, 4] or rows.tolist() == [1, 2, 4]
    assert len(set(choose_rows(torch.zeros(4, 1), labels[:4], size=3, method="kcenter")[0].tolist())) == 3


def test_derived_radius_holds_what_a_pick_stands_for():
    points = torch.arange(10.0)[:, None]
    radius = derived_radius({0: points}, {0: 5})
    assert radius == pytest.approx(1.0, rel=1e-4)  # the second nearest, itself counted, is one away


@pytest.mark.parametrize("method", METHODS)
def test_statistics_run_over_all_rows(make, method):
    fit, labels = make(80)
    bank = fit_bank(fit, labels, slopes=1.0, subset=0.25, subset_method=method, seed=1)
    assert len(bank) == 20 and bank.fitted == 80 and bank.counted == 80
    assert bank.subset_method == method and (bank.radius is not None) == (method == "radius")


def test_unknown_method():
    points, labels = cloud()
    with pytest.raises(errors.UnknownName, match="'radius'"):
        choose_rows(points, labels, size=0.5, method="radios")
    with pytest.raises(errors.NonFinite):
        choose_rows(points * torch.nan, labels, size=0.5, method="kcenter")
