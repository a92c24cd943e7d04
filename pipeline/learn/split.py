"""Held-out rows, threshold rows, folds."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

MIN_HELD_OUT = 20


def held_out(targets: NDArray[np.int32], ids: Sequence[str], share: float, *, seed: int) -> NDArray[np.bool_]:
    """Choose the rows that are held out for validation.

    They are `share` of each class, at least one row of a class with four or more, and none of a smaller class.

    Each row is ranked within its class by a hash of its id, so the choice depends on ids and seed alone. New labels
    move few rows from one side to the other: a net that is trained further has not seen the rows that judge it.

    Returns:
        (n,) bool, true where a row is held out.
    """
    chosen = np.zeros(len(targets), np.bool_)
    ranks = [hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest() for name in ids]
    for target in np.unique(targets):
        rows = np.flatnonzero(targets == target)
        count = max(round(share * len(rows)), 1) if share > 0 and len(rows) >= 4 else 0
        chosen[sorted(rows, key=lambda row: ranks[row])[:count]] = True
    return chosen


def threshold_rows(held: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the rows that set the threshold.

    They are the held-out ones, or all where these are too few for a 5 % quantile.
    """
    return np.flatnonzero(held) if int(held.sum()) >= MIN_HELD_OUT else np.arange(len(held))


def folds(targets: torch.Tensor, count: int = 5) -> list[torch.Tensor]:
    """Divide labeled rows into parts with equal shares of each class.

    Each part is to be judged by a fit to the others: a detector finds a row that it has seen less strange than any new
    one, so a threshold from such rows would flag every new image.

    Args:
        targets: (n,) int64 classes of the rows, n > 0, in the order of their ids.
        count: number of parts; fewer if there are fewer rows.

    Returns:
        The (m,) int64 places of each part's rows; no part is empty.
    """
    seen: Counter[int] = Counter()
    parts: list[list[int]] = [[] for _ in range(count)]
    for place, target in enumerate(targets.tolist()):
        # Each class begins with another part, so that classes of one row do not all meet in the first.
        parts[(seen[target] + target) % count].append(place)
        seen[target] += 1
    return [torch.tensor(part) for part in parts if part]
