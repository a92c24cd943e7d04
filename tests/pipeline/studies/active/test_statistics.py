"""Areas, budgets, bands and tests: cases by hand, against scipy, and against published critical values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.studies.active.statistics import (
    area,
    bands,
    budget_for,
    critical_range,
    friedman_nemenyi,
    holm,
    wilcoxon_holm,
    wins,
)


def test_area_is_the_mean_height_of_the_curve() -> None:
    assert area([100, 200, 400], [0.5, 0.5, 0.5]) == pytest.approx(0.5)
    assert area([0, 1, 3], [0.0, 1.0, 0.0]) == pytest.approx(0.5)


def test_the_budget_for_a_target_lies_between_two() -> None:
    budgets, values = [100, 200, 300], [0.4, 0.6, 0.5]
    assert budget_for(budgets, values, 0.5) == pytest.approx(150)
    assert budget_for(budgets, values, 0.3) == 100
    assert budget_for(budgets, values, 0.6) == pytest.approx(200)
    assert budget_for(budgets, values, 0.61) is None


def test_holm_by_hand() -> None:
    # 0.01 * 3, 0.02 * 2, and the last not below the one before it
    assert holm([0.02, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_wilcoxon_is_scipys() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal((0.0, 0.3, 2.0), size=(12, 3))
    found = wilcoxon_holm(matrix)
    raw = {(i, j): stats.wilcoxon(matrix[:, i], matrix[:, j]).pvalue for i, j in found}
    assert list(found.values()) == pytest.approx(holm(list(raw.values())))
    assert wilcoxon_holm(np.ones((5, 2))) == {(0, 1): 1.0}


@pytest.mark.parametrize(
    (
        "k",
        "published",
    ),  # Demsar, "Statistical comparisons of classifiers over multiple data sets", 2006, table 5 (a)
    [
        (2, 1.960),
        (3, 2.343),
        (4, 2.569),
        (5, 2.728),
        (6, 2.850),
        (7, 2.949),
        (8, 3.031),
        (9, 3.102),
        (10, 3.164),
    ],
)
def test_nemenyis_critical_values_are_the_published_ones(k: int, published: float) -> None:
    assert critical_range(k) == pytest.approx(
        published, abs=1.1e-3
    )  # printed with three digits, some cut off


def test_the_published_example_of_ranks() -> None:
    """Demsar's section 3.2.2 compares 4 classifiers on 14 data sets: CD 1.25 at 5 %, by his rounding."""
    rng = np.random.default_rng(1)
    found = friedman_nemenyi(rng.normal(size=(14, 4)))
    assert found is not None
    assert found.critical == pytest.approx(1.25, abs=0.005)
    assert sum(found.ranks) == pytest.approx(10)


def test_a_pair_at_the_critical_difference_has_five_percent() -> None:
    matrix = np.asarray([[3.0, 2.0, 1.0], [3.0, 1.0, 2.0], [3.0, 2.0, 1.0], [2.0, 3.0, 1.0]])
    found = friedman_nemenyi(matrix)
    assert found is not None
    assert found.ranks == pytest.approx((1.25, 2.0, 2.75))
    assert found.p == pytest.approx(stats.friedmanchisquare(*matrix.T).pvalue)
    gap = found.ranks[2] - found.ranks[0]
    assert (found.pairs[0, 2] < 0.05) == (gap > found.critical)
    assert friedman_nemenyi(matrix[:, :2]) is None
    equal = friedman_nemenyi(np.ones((4, 3)))
    assert equal is not None
    assert equal.p == 1.0
    assert list(equal.pairs.values()) == pytest.approx([1.0] * 3)


def test_wins_count_ties_half() -> None:
    assert wins(np.asarray([[1.0, 0.0], [0.5, 0.5]])).tolist() == [[0.5, 0.75], [0.25, 0.5]]


def test_bands_know_no_lucky_starts() -> None:
    """Seeds that lie apart by a constant leave no doubt about which strategy is better."""
    base = np.asarray([[0.4, 0.5], [0.42, 0.55]])
    means, widths = bands(np.stack([base - 0.1, base, base + 0.1]))
    assert means == pytest.approx(base)
    assert widths == pytest.approx(np.zeros((2, 2)), abs=1e-12)
    _, alone = bands(np.stack([base - 0.1, base, base + 0.1])[:, :1])
    assert alone == pytest.approx(np.full((1, 2), stats.t.ppf(0.975, 2) * 0.1 / np.sqrt(3)))
    assert not bands(base[None])[1].any()
