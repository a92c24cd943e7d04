"""The only table of names: what a configuration file may ask for."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, TypeVar

from sisom import detectors, selectors
from sisom.detectors import Detector
from sisom.errors import InputError, UnknownName, nearest_name
from sisom.network.head import Head
from sisom.selectors import RowSelector, Selector

__all__ = ["DETECTORS", "ROW_SELECTORS", "SELECTORS", "build_detector", "build_selector"]

DETECTORS: dict[str, Callable[..., Detector[Any]]] = {
    "msp": detectors.MspDetector,
    "max-logit": detectors.MaxLogitDetector,
    "energy": detectors.EnergyDetector,
    "temp-scale": detectors.TempScaleDetector,
    "odin": detectors.OdinDetector,
    "gen": detectors.GenDetector,
    "react": detectors.ReActDetector,
    "dice": detectors.DiceDetector,
    "ash-b": detectors.AshDetector,
    "scale": detectors.ScaleDetector,
    "she": detectors.SheDetector,
    "grad-norm": detectors.GradNormDetector,
    "knn": detectors.KnnDetector,
    "mahalanobis": detectors.MahalanobisDetector,
    "relative-mahalanobis": detectors.RelativeMahalanobisDetector,
    "vim": detectors.VimDetector,
    "fdbd": detectors.FdbdDetector,
    "nac-ue": detectors.NacDetector,
    "sisom": detectors.SisomDetector,
    "sisome": detectors.SisomeDetector,
    "sisom-fused": detectors.SisomFusedDetector,
}

# Those that can be streamed: each row's priority is its own.
ROW_SELECTORS: dict[str, Callable[..., RowSelector]] = {
    "sisome": selectors.SisomeSelector,
    "sisom": selectors.SisomSelector,
    "energy": selectors.EnergySelector,
    "random": selectors.RandomSelector,
    "least-confidence": selectors.LeastConfidenceSelector,
    "margin": selectors.MarginSelector,
    "entropy": selectors.EntropySelector,
    "bald": selectors.BaldSelector,
    "qbc-vote": selectors.VoteEntropySelector,
    "qbc-kl": selectors.KlSelector,
}

SELECTORS: dict[str, Callable[..., Selector]] = {
    **ROW_SELECTORS,
    "coreset": selectors.CoreSetSelector,
    "badge": selectors.BadgeSelector,
    "typiclust": selectors.TypiClustSelector,
    "prob-cover": selectors.ProbCoverSelector,
    "base": selectors.BaseSelector,
    "information-density": selectors.InformationDensitySelector,
    "class-balanced": selectors.ClassBalancedSelector,
    "sisome-greedy": selectors.SisomeGreedySelector,
}

# What a file may give where an option is annotated so.
_FITTING: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "float | int": (int, float),
    "float | None": (int, float, type(None)),
    "str": (str,),
    "float | Sequence[float]": (int, float, list, tuple),
}

Made = TypeVar("Made")


def build_detector(name: str, *, head: Head | None = None, **options: object) -> Detector[Any]:
    """The detector `name` with `options`; `head` is for those that need it, and the others never see it.

    Raises `UnknownName`, and `InputError` for an option that the detector does not have.
    """
    kind = _named(DETECTORS, name, "detector")
    return kind(**_fitting(kind, f"detector {name!r}", options), **_head_of(kind, head))


def build_selector(name: str, *, head: Head | None = None, **options: object) -> Selector:
    """The selector `name` with `options`; `head` is for those that need it, and the others never see it.

    A ranking that another selector levels over the classes (`of`) is given by its name.

    Raises `UnknownName`, and `InputError` for an option that the selector does not have.
    """
    kind = _named(SELECTORS, name, "selector")
    if "of" in options and not isinstance(options["of"], RowSelector):
        options["of"] = _named(ROW_SELECTORS, str(options["of"]), "ranking")()
    return kind(**_fitting(kind, f"selector {name!r}", options), **_head_of(kind, head))


def _head_of(kind: Callable[..., object], head: Head | None) -> dict[str, Any]:
    return {"head": head} if "head" in signature(kind).parameters else {}


def _fitting(kind: Callable[..., object], who: str, options: dict[str, object]) -> dict[str, Any]:
    """Return the options, checked against the constructor's parameters; raise `InputError`."""
    parameters = signature(kind).parameters
    known = list(parameters)
    for option, value in options.items():
        if option not in known:
            if not known:
                raise InputError(f"{who} has no options")
            raise InputError(
                f"{who} has no option {option!r}; the nearest is {nearest_name(option, known)!r}"
            )
        # Annotations are text in modules that put them off.
        wanted = str(getattr(parameters[option].annotation, "__name__", parameters[option].annotation))
        wanted = wanted.replace("collections.abc.", "")
        fitting = _FITTING.get(wanted, (object,))
        if not isinstance(value, fitting) or (wanted in _FITTING and isinstance(value, bool)):
            raise InputError(f"{who}: {option} must be of type {wanted}, got {value!r}")
    return options


def _named(table: Mapping[str, Made], name: str, what: str) -> Made:
    if name not in table:
        near = nearest_name(name, list(table))
        raise UnknownName(f"unknown {what} {name!r}; the nearest is {near!r}", name, near)
    return table[name]
