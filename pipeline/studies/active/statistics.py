"""Statistics of learning curves: areas, budgets, confidence, and tests of paired differences.

Rows of a matrix are blocks, that is budgets of a seed, and columns are strategies; higher values are better. Budgets of
one seed are not independent of each other, so p-values over blocks are too small: use them only to rank evidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def area(budgets: Sequence[int], values: Sequence[float]) -> float:
    """Return the mean height of a curve over budgets.

    It is the area under the curve by trapezoids, divided by the range of the budgets.
    """
    return float(np.trapezoid(values, budgets) / (budgets[-1] - budgets[0]))


def budget_for(budgets: Sequence[int], values: Sequence[float], target: float) -> float | None:
    """Find the first budget at which a curve reaches `target`.

    The curve is straight between budgets. None if it never reaches the target.
    """
    if values[0] >= target:
        return float(budgets[0])
    for i in range(1, len(values)):
        if values[i] >= target:
            part = (target - values[i - 1]) / (values[i] - values[i - 1])
            return budgets[i - 1] + part * (budgets[i] - budgets[i - 1])
    return None


def bands(values: Matrix, level: float = 0.95) -> tuple[Matrix, Matrix]:
    """Compute means over seeds and confidence bands to compare strategies.

    What all strategies of a seed have in common, such as a lucky start, is removed first (Cousineau's intervals with
    Morey's correction), since it says nothing about which of them is better. With one seed the widths are zero.

    Args:
        values: (seeds, strategies, budgets).
        level: of confidence, by Student's distribution.

    Returns:
        The means and the half-widths of their confidence intervals, (strategies, budgets) each.
    """
    from scipy import stats

    seeds, strategies, _ = values.shape
    means = values.mean(axis=0)
    if seeds < 2:
        return means, np.zeros_like(means)
    if strategies > 1:
        values = values - values.mean(axis=1, keepdims=True) + means.mean(axis=0)
    correction = strategies / (strategies - 1) if strategies > 1 else 1.0
    deviation = np.sqrt(values.var(axis=0, ddof=1) * correction)
    return means, np.asarray(stats.t.ppf(0.5 + level / 2, seeds - 1) * deviation / math.sqrt(seeds))


def holm(p: Sequence[float]) -> list[float]:
    """Adjust p-values for their number by Holm's step-down procedure."""
    order = sorted(range(len(p)), key=p.__getitem__)
    adjusted, so_far = [0.0] * len(p), 0.0
    for place, i in enumerate(order):
        so_far = max(so_far, min(1.0, (len(p) - place) * p[i]))
        adjusted[i] = so_far
    return adjusted


def wilcoxon_holm(matrix: Matrix) -> dict[tuple[int, int], float]:
    """Test all pairs of columns by Wilcoxon's signed-rank test.

    Tests are two-sided. P-values are adjusted by Holm; columns that are equal have 1.
    """
    from scipy import stats

    pairs = list(combinations(range(matrix.shape[1]), 2))
    raw = []
    for i, j in pairs:
        gap = matrix[:, i] - matrix[:, j]
        raw.append(float(stats.wilcoxon(gap).pvalue) if np.any(gap) else 1.0)
    return dict(zip(pairs, holm(raw), strict=True))


@dataclass(frozen=True)
class Ranking:
    """Results of Friedman's test and of Nemenyi's test after it.

    ranks     the mean rank of each column, 1 the best
    p         Friedman's p-value
    critical  mean ranks further apart than this differ at the 5 % level
    pairs     Nemenyi's p-value of each pair of columns
    """

    ranks: tuple[float, ...]
    p: float
    critical: float
    pairs: dict[tuple[int, int], float]


def friedman_nemenyi(matrix: Matrix) -> Ranking | None:
    """Test by Friedman whether columns differ, and by Nemenyi which do.

    None for fewer than three columns or two rows.
    """
    from scipy import stats

    blocks, k = matrix.shape
    if k < 3 or blocks < 2:
        return None
    ranks = stats.rankdata(-matrix, axis=1).mean(axis=0)
    equal = bool(np.all(matrix == matrix[:, :1]))
    p = 1.0 if equal else float(stats.friedmanchisquare(*matrix.T).pvalue)
    unit = math.sqrt(k * (k + 1) / (6 * blocks))
    pairs = {
        (i, j): float(stats.studentized_range.sf(math.sqrt(2) * abs(ranks[i] - ranks[j]) / unit, k, np.inf))
        for i, j in combinations(range(k), 2)
    }
    return Ranking(tuple(map(float, ranks)), p, critical_range(k) * unit, pairs)


def critical_range(k: int, level: float = 0.05) -> float:
    """Return Nemenyi's critical value for `k` columns.

    It is the studentised range for infinitely many degrees of freedom, divided by the square root of two.
    """
    from scipy import stats

    return float(stats.studentized_range.isf(level, k, np.inf) / math.sqrt(2))


def wins(matrix: Matrix) -> Matrix:
    """Return the share of rows in which a column beats another.

    Entry (i, j) of the (k, k) matrix is for column i above column j; ties count half.
    """
    above = (matrix[:, :, None] > matrix[:, None, :]).mean(axis=0)
    level = (matrix[:, :, None] == matrix[:, None, :]).mean(axis=0)
    return np.asarray(above + 0.5 * level, np.float64)
