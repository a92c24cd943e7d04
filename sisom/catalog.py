"""Tables of detectors and selectors by the names that configs use."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, TypeVar

from sisom.detectors.activations import AshDetector, ReActDetector, ScaleDetector
from sisom.detectors.base import Detector
from sisom.detectors.boundaries import FdbdDetector
from sisom.detectors.coverage import NacDetector
from sisom.detectors.fused import SisomFusedDetector
from sisom.detectors.gaussians import MahalanobisDetector, RelativeMahalanobisDetector
from sisom.detectors.logits import (
    EnergyDetector,
    GenDetector,
    MaxLogitDetector,
    MspDetector,
    TempScaleDetector,
)
from sisom.detectors.neighbors import KnnDetector
from sisom.detectors.odin import OdinDetector
from sisom.detectors.patterns import SheDetector
from sisom.detectors.sisom import SisomDetector, SisomeDetector
from sisom.detectors.vim import VimDetector
from sisom.detectors.weights import DiceDetector, GradNormDetector
from sisom.errors import InputError, UnknownName, nearest_name
from sisom.network.head import Head
from sisom.selectors.badge import BadgeSelector
from sisom.selectors.base import RowSelector, Selector
from sisom.selectors.boundaries import BaseSelector
from sisom.selectors.by_score import EnergySelector, SisomeSelector, SisomSelector
from sisom.selectors.class_balanced import ClassBalancedSelector
from sisom.selectors.committee import BaldSelector, KlSelector, VoteEntropySelector
from sisom.selectors.coreset import CoreSetSelector
from sisom.selectors.coverage import ProbCoverSelector
from sisom.selectors.density import InformationDensitySelector
from sisom.selectors.random import RandomSelector
from sisom.selectors.sisome_greedy import SisomeGreedySelector
from sisom.selectors.typical import TypiClustSelector
from sisom.selectors.uncertainty import EntropySelector, LeastConfidenceSelector, MarginSelector

__all__ = ["DETECTORS", "ROW_SELECTORS", "SELECTORS", "build_detector", "build_selector"]

DETECTORS: dict[str, Callable[..., Detector[Any]]] = {
    "msp": MspDetector,
    "max-logit": MaxLogitDetector,
    "energy": EnergyDetector,
    "temp-scale": TempScaleDetector,
    "odin": OdinDetector,
    "gen": GenDetector,
    "react": ReActDetector,
    "dice": DiceDetector,
    "ash-b": AshDetector,
    "scale": ScaleDetector,
    "she": SheDetector,
    "grad-norm": GradNormDetector,
    "knn": KnnDetector,
    "mahalanobis": MahalanobisDetector,
    "relative-mahalanobis": RelativeMahalanobisDetector,
    "vim": VimDetector,
    "fdbd": FdbdDetector,
    "nac-ue": NacDetector,
    "sisom": SisomDetector,
    "sisome": SisomeDetector,
    "sisom-fused": SisomFusedDetector,
}

# Those that can be streamed: each row's priority is its own.
ROW_SELECTORS: dict[str, Callable[..., RowSelector]] = {
    "sisome": SisomeSelector,
    "sisom": SisomSelector,
    "energy": EnergySelector,
    "random": RandomSelector,
    "least-confidence": LeastConfidenceSelector,
    "margin": MarginSelector,
    "entropy": EntropySelector,
    "bald": BaldSelector,
    "qbc-vote": VoteEntropySelector,
    "qbc-kl": KlSelector,
}

SELECTORS: dict[str, Callable[..., Selector]] = {
    **ROW_SELECTORS,
    "coreset": CoreSetSelector,
    "badge": BadgeSelector,
    "typiclust": TypiClustSelector,
    "prob-cover": ProbCoverSelector,
    "base": BaseSelector,
    "information-density": InformationDensitySelector,
    "class-balanced": ClassBalancedSelector,
    "sisome-greedy": SisomeGreedySelector,
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
    """Build the detector `name` with `options`.

    `head` goes to the detectors that need it; the others never see it.

    Raises `UnknownName`, and `InputError` for an option that the detector does not have.
    """
    kind = _named(DETECTORS, name, "detector")
    return kind(**_fitting(kind, f"detector {name!r}", options), **_head_of(kind, head))


def build_selector(name: str, *, head: Head | None = None, **options: object) -> Selector:
    """Build the selector `name` with `options`.

    `head` goes to the selectors that need it; the others never see it.

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
