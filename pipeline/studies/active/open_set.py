"""Open sets by the rules of Joda (arXiv 2503.02491).

The rules say which classes are known, which images pass the filter, and how a query is measured. A class is its number
in the taxonomy of the whole pool; images of another world have class -1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.studies.active.config import OpenSet

Classes = NDArray[np.int64]
FAR = -1


def known_at_first(classes: int, rules: OpenSet | None) -> int:
    """Return the number of classes known at first.

    They are the first of the taxonomy's `classes`: a share `rules.known`, at least two, or all without rules.
    """
    return classes if rules is None else max(2, round(rules.known * classes))


def known_classes(labeled: Classes, classes: int, *, rules: OpenSet | None) -> Classes:
    """Return the known classes, ascending.

    Args:
        labeled: (n,) classes of the labeled images.
        classes: how many there are in all.
        rules: of the open set, or None where all classes are known.
    """
    first = known_at_first(classes, rules)
    if rules is None:
        return np.arange(classes, dtype=np.int64)
    counts = np.bincount(labeled[labeled >= 0], minlength=classes)
    return np.asarray([c for c in range(classes) if c < first or counts[c] >= rules.promote], np.int64)


def accuracy(predicted: Classes, truth: Classes, known: Classes, *, classes: int) -> float:
    """Return the mean accuracy over all classes.

    An unknown class counts 0.

    Args:
        predicted: (n,) classes of the taxonomy.
        truth: (n,) classes of the taxonomy.
        known: the classes that are known.
        classes: how many there are in all.
    """
    shares = [float((predicted[truth == c] == c).mean()) if c in known else 0.0 for c in range(classes)]
    return float(np.mean(shares))


def passing(energy: NDArray[np.float64], limit: float | None, least: int) -> NDArray[np.bool_]:
    """Return the rows of the pool that pass the filter, (n,) bool.

    They are those with an energy below `limit`, but never fewer than the `least` lowest. Without a limit all pass.
    """
    if limit is None:
        return np.ones(len(energy), np.bool_)
    keep = energy < limit
    if keep.sum() < least:
        keep[np.argsort(energy, kind="stable")[:least]] = True
    return np.asarray(keep, np.bool_)


def query_measures(asked: Classes, labeled_before: Classes, pool: Classes) -> dict[str, float]:
    """Return the precision of a query and the recall after it.

    Precision is the share of the query that is of any class, known or not yet. Recall is the share of all such images
    of the pool that are labeled after the query.

    Args:
        asked: classes of the query.
        labeled_before: classes of the images labeled before it.
        pool: classes of the whole pool with the initial set.
    """
    worth = int((asked != FAR).sum())
    found = int((labeled_before != FAR).sum()) + worth
    return {"precision": worth / len(asked), "recall": found / int((pool != FAR).sum())}
