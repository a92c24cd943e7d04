"""k-means."""

import torch

from sisom.selectors.clusters import kmeans
from tests.support.selector_rows import gaussian


def test_kmeans_finds_what_is_there():
    centers = 10 * gaussian(5, 4, 15)
    truth = torch.arange(200) % 5
    points = centers[truth] + 0.3 * gaussian(200, 4, 16)
    for seed in range(3):
        found = kmeans(points, 5, seed=seed)
        pairs = {(int(a), int(b)) for a, b in zip(truth, found, strict=True)}
        assert len(pairs) == 5
    assert int(kmeans(torch.ones(9, 3), 4, seed=0).max()) == 0
