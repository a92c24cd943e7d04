"""The options that were published as sweeps, and the choice among them on a validation split."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TypeVar

from jaxtyping import Int
from torch import Tensor

from sisom.catalog import build_detector
from sisom.errors import InputError
from sisom.metrics import auroc
from sisom.network.head import Head
from sisom.types import Features

__all__ = ["SWEEPS", "best_options", "search_options"]

Sweep = Mapping[str, Sequence[float | int]]
Value = TypeVar("Value")

# As OpenOOD 1.5 sweeps them.
SWEEPS: dict[str, Sweep] = {
    "odin": {"temperature": (1.0, 10.0, 100.0, 1000.0), "noise": (0.0014, 0.0028)},
    "gen": {"gamma": (0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0), "largest": (10, 50, 100, 200, 500, 1000)},
    "react": {"percentile": (85.0, 90.0, 95.0, 99.0)},
    "dice": {"percentile": (10.0, 30.0, 50.0, 70.0, 90.0)},
    "ash-b": {"percentile": (65.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0)},
    "scale": {"percentile": (65.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0)},
    "knn": {"k": (50, 100, 200, 500, 1000)},
    "vim": {"dim": (256, 1000)},
}


def search_options(
    name: str,
    features: Features,
    labels: Int[Tensor, " n"],
    known: Features,
    unknown: Features,
    *,
    head: Head | None = None,
    sweep: Sweep | None = None,
) -> tuple[dict[str, float | int], float]:
    """The options of a detector fitted to `features` that best tell `known` from `unknown`, and their AUROC.

    Looks at every combination of `sweep`, or of the published one; equal ones go to the first. Raises `InputError`
    for a detector without a sweep and for one that needs the images themselves.
    """
    fields = SWEEPS.get(name) if sweep is None else sweep
    if not fields:
        raise InputError(f"there is no sweep of {name!r}")
    if "model" in build_detector(name, head=head).needs:
        raise InputError(f"the options of {name!r} change the images, so they cannot be chosen from features")

    def told_apart(options: Mapping[str, float | int]) -> float:
        detector = build_detector(name, head=head, **options)
        state = detector.fit(features, labels)
        return auroc(detector.score(state, known), detector.score(state, unknown))

    return best_options(fields, told_apart)


def best_options(
    sweep: Mapping[str, Sequence[Value]], goodness: Callable[[Mapping[str, Value]], float]
) -> tuple[dict[str, Value], float]:
    """Return the combination of swept options with the highest goodness, and this; ties go to the first.

    The first option varies slowest. `InputError` for a sweep without a combination.
    """
    combinations = [dict(zip(sweep, values, strict=True)) for values in product(*sweep.values())]
    if not combinations:
        raise InputError("a sweep needs at least one value of each option")
    values = [goodness(options) for options in combinations]
    best = max(range(len(values)), key=values.__getitem__)
    return combinations[best], values[best]
