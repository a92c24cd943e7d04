"""Decisions from scores: threshold, p-value, verdict and confidence.

Scores are higher for stranger images, everywhere. Only `confidence` turns the sign, for benchmarks that want higher to
mean in-distribution; its ranking is the reverse.
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from sisom.errors import EmptyInput, InputError, NonFinite

__all__ = ["FEWEST_ANSWERS", "best_filter", "confidence", "far_filter", "is_ood", "p_values", "threshold"]

Energies = NDArray[np.float32] | NDArray[np.float64]
FEWEST_ANSWERS = 5  # on either side of the open-set filter: fewer tell nothing


def threshold(scores: Float[Tensor, " n"], keep: float = 0.95) -> float:
    """Find the score above which an image is out-of-distribution.

    A share `keep` of known images lies at or below it.

    `scores` are of held-out in-distribution images. The threshold is the ceil((n + 1) * keep)-th smallest of them. Then
    a new exchangeable in-distribution image is flagged with a chance of at most 1 - keep, and at least `keep` of the
    given ones are kept. With fewer than keep / (1 - keep) scores no threshold can promise that; the largest score is
    returned, which flags a new image with a chance of at most 1 / (n + 1).

    Raises `EmptyInput`, `NonFinite`, and `InputError` for a share outside (0, 1].
    """
    _check_scores(scores)
    if not 0 < keep <= 1:
        raise InputError(f"keep must lie in (0, 1], got {keep}")
    n = len(scores)
    # Rounded before the ceiling: (n + 1) * 0.95 may come out a hair above a whole number.
    place = min(n, max(1, math.ceil(round((n + 1) * keep, 9))))
    return float(scores.sort().values[place - 1])


def p_values(known: Float[Tensor, " n"], scores: Float[Tensor, " q"]) -> Float[Tensor, " q"]:
    """Compute conformal p-values against held-out in-distribution scores.

    A p-value is (1 + the number of known scores at least as high) / (n + 1), in (0, 1], float64. For an image
    exchangeable with the known ones, the chance of a p-value of at most `a` is at most `a`.

    Raises `EmptyInput` and `NonFinite` for the known scores.
    """
    _check_scores(known)
    ranked = known.double().sort().values
    at_least = len(ranked) - torch.searchsorted(ranked, scores.double().contiguous())
    return (1.0 + at_least.double()) / (len(ranked) + 1)


def is_ood(scores: Float[Tensor, " n"], limit: float) -> Bool[Tensor, " n"]:
    """Mark rows whose score lies strictly above the threshold."""
    return scores > limit


def confidence(scores: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the paper's S: minus the score, higher means in-distribution."""
    return -scores


def _check_scores(scores: Tensor) -> None:
    if len(scores) == 0:
        raise EmptyInput("at least one in-distribution score is needed")
    if not bool(torch.isfinite(scores).all()):
        raise NonFinite("in-distribution scores must be finite")


def far_filter(far: Energies, rest: Energies) -> tuple[float | None, float | None]:
    """Tune the open-set filter of Joda (arXiv 2503.02491).

    Rounds and studies share it.

    Args:
        far: (m,) energies of images answered as out of this world.
        rest: (n,) energies of the other answered images.

    Returns:
        The lowest energy that counts as far, or None where no energy is better than chance; and the filter's Youden
        index. Both are None with fewer than `FEWEST_ANSWERS` of either side.
    """
    if min(len(far), len(rest)) < FEWEST_ANSWERS:
        return None, None
    return best_filter(far, rest)


def best_filter(far: Energies, rest: Energies) -> tuple[float | None, float]:
    """Find the energy threshold with the largest Youden index.

    The index is the share of `far` at or above the threshold less the share of `rest`. Ties go to the higher threshold,
    which marks fewer images as far.

    Args:
        far: (m,) energies of images out of this world, m > 0.
        rest: (n,) energies of the other answered images, n > 0.

    Returns:
        The threshold, one of `far`, or None where none is better than chance; and its index.
    """
    steps = np.unique(far)
    hits = 1.0 - np.searchsorted(np.sort(far), steps) / len(far)
    misses = 1.0 - np.searchsorted(np.sort(rest), steps) / len(rest)
    index = hits - misses
    best = int(len(index) - 1 - np.argmax(index[::-1]))
    return (float(steps[best]) if index[best] > 0 else None), float(index[best])
