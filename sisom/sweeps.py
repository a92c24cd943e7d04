"""Published sweeps of options, and the choice among them."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TypeVar

from sisom.catalog import build_detector
from sisom.errors import InputError
from sisom.metrics import auroc
from sisom.network.head import Head
from sisom.types import Features, Labeled

__all__ = ["SWEEPS", "choose_options", "search_options"]

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


def choose_options(
    sweep: Mapping[str, Sequence[Value]], judge: Callable[[dict[str, Value]], float]
) -> tuple[dict[str, Value], float]:
    """Choose the combination of swept values that `judge` puts highest.

    Equal ones go to the first.

    Returns:
        The values by option, and what `judge` made of them.

    Raises:
        InputError: where there is no combination.
    """
    best: tuple[dict[str, Value], float] | None = None
    for values in product(*sweep.values()):
        options = dict(zip(sweep, values, strict=True))
        value = judge(options)
        if best is None or value > best[1]:
            best = options, value
    if best is None or not sweep:
        raise InputError("a sweep needs values to choose from")
    return best


def search_options(
    name: str,
    labeled: Labeled,
    *,
    known: Features,
    unknown: Features,
    head: Head | None = None,
    sweep: Sweep | None = None,
) -> tuple[dict[str, float | int], float]:
    """Choose a detector's options on a validation split.

    Args:
        name: of the detector.
        labeled: the rows that it is fitted to.
        known: features of images of known classes.
        unknown: features of images of no known class.
        head: the classifier's last layer, for detectors that need it.
        sweep: the values of each option; the published ones when left out.

    Returns:
        The options that best tell known from unknown, and their AUROC.

    Raises:
        InputError: for a detector without a sweep, and for one that needs the images themselves.
    """
    sweep = SWEEPS.get(name) if sweep is None else sweep
    if not sweep:
        raise InputError(f"there is no sweep of {name!r}")
    if "model" in build_detector(name, head=head).needs:
        raise InputError(f"the options of {name!r} change the images, so they cannot be chosen from features")
    fitted = labeled.features
    if fitted is None:
        raise InputError("choosing options needs the features of the labeled rows")

    def judge(options: dict[str, float | int]) -> float:
        detector = build_detector(name, head=head, **options)
        state = detector.fit(fitted, labeled.labels)
        return auroc(detector.score(state, known), detector.score(state, unknown))

    return choose_options(sweep, judge)
