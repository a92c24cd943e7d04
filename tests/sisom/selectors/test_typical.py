"""TypiClust by hand."""

import math

import torch

from tests.support.selector_rows import gaussian, known, picks, rows


def test_typiclust_takes_the_middle_of_each_large_cluster_without_labels():
    angle = torch.tensor([0.0] * 7 + [1.0] * 9 + [2.0] * 8)
    angle += torch.cat([0.1 * torch.linspace(-1, 1, n) ** 3 for n in (7, 9, 8)])
    points = torch.stack([angle.cos(), angle.sin()], dim=1)
    # One cluster a label or pick: three of them. The cluster at 2.0 has a label.
    labeled = known([[math.cos(2.0), math.sin(2.0)]], [0])
    found = picks("typiclust", rows(points), labeled, k=2, neighbors=3)
    assert found == [11, 3]  # the larger one first, then the other; the middle of each


def test_typiclust_goes_on_when_clusters_are_used_up():
    pool = rows(gaussian(30, 4, 17))
    found = picks("typiclust", pool, k=30, most=3)
    assert sorted(found) == list(range(30))
