"""ProbCover against plain greedy coverage."""

import pytest
import torch

from tests.support.selector_rows import gaussian, known, picks, rows


def greedy_cover(points, centers, radius, k):
    """Greedy maximum coverage with the whole graph in memory."""
    unit = lambda x: x / x.norm(dim=1, keepdim=True)  # noqa: E731
    everything = unit(torch.cat([points, centers]).double())
    near = torch.cdist(everything, everything, compute_mode="donot_use_mm_for_euclid_dist") < radius
    left = ~near[len(points) :].any(0)
    chosen = []
    for _ in range(k):
        gain = (near[: len(points)] & left).sum(1)
        if int(gain.max()) == 0:
            break
        chosen.append(int(gain.argmax()))
        left &= ~near[chosen[-1]]
    return chosen


@pytest.mark.parametrize("radius", [0.3, 0.75])
def test_prob_cover_equals_greedy_coverage(radius):
    points, centers = gaussian(300, 4, 18), gaussian(10, 4, 19)
    expected = greedy_cover(points, centers, radius, 25)
    found = picks("prob-cover", rows(points), known(centers, [0] * 10), k=25, radius=radius)
    assert found[: len(expected)] == expected
    assert len(set(found)) == 25
