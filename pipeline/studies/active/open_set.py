"""Open sets, by the rules of Joda (arXiv 2503.02491): which classes are known, what far images teach, what is filtered.

A class is its number in the taxonomy of the whole pool; images of another world have class -1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.studies.active.config import OpenSet

Classes = NDArray[np.int64]
FAR = -1


def known_at_first(classes: int, rules: OpenSet | None) -> int:
    """How many classes, the first of the taxonomy, are known before anything is asked."""
    return classes if rules is None else max(2, round(rules.known * classes))


def known_classes(labeled: Classes, classes: int, *, rules: OpenSet | None) -> Classes:
    """The classes that are known given the classes of the labeled images, ascending."""
    first = known_at_first(classes, rules)
    if rules is None:
        return np.arange(classes, dtype=np.int64)
    counts = np.bincount(labeled[labeled >= 0], minlength=classes)
    return np.asarray([c for c in range(classes) if c < first or counts[c] >= rules.promote], np.int64)


def accuracy(predicted: Classes, truth: Classes, known: Classes, *, classes: int) -> float:
    """The mean over all classes of the share of their images that are right; nobody is right on an unknown class.

    `predicted` are classes of the taxonomy, `truth` too.
    """
    shares = [float((predicted[truth == c] == c).mean()) if c in known else 0.0 for c in range(classes)]
    return float(np.mean(shares))


def passing(energy: NDArray[np.float64], limit: float | None, least: int) -> NDArray[np.bool_]:
    """Which rows of the pool pass the filter: those below `limit`, and never fewer than the `least` lowest."""
    if limit is None:
        return np.ones(len(energy), np.bool_)
    keep = energy < limit
    if keep.sum() < least:
        keep[np.argsort(energy, kind="stable")[:least]] = True
    return np.asarray(keep, np.bool_)


def query_measures(asked: Classes, labeled_before: Classes, pool: Classes) -> dict[str, float]:
    """Precision of a query, and recall of all that is labeled after it: shares of images that are of any class.

    `asked`, `labeled_before` and `pool` are classes: of the query, of what was labeled before it, and of the whole
    pool with the initial set.
    """
    worth = int((asked != FAR).sum())
    found = int((labeled_before != FAR).sum()) + worth
    return {"precision": worth / len(asked), "recall": found / int((pool != FAR).sum())}
