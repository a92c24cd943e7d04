"""Tables of detectors and selectors by the names that configs use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any, TypeVar

from sisom.errors import InputError, UnknownName, nearest_name
from sisom.tables import Table

if TYPE_CHECKING:
    from sisom.detectors.base import Detector
    from sisom.network.head import Head
    from sisom.selectors.base import RowSelector, Selector

__all__ = ["DETECTORS", "ROW_SELECTORS", "SELECTORS", "build_detector", "build_selector"]

DETECTORS: Mapping[str, Callable[..., Detector[Any]]] = Table(
    {
        "msp": "sisom.detectors.logits:MspDetector",
        "max-logit": "sisom.detectors.logits:MaxLogitDetector",
        "energy": "sisom.detectors.logits:EnergyDetector",
        "temp-scale": "sisom.detectors.logits:TempScaleDetector",
        "odin": "sisom.detectors.odin:OdinDetector",
        "gen": "sisom.detectors.logits:GenDetector",
        "react": "sisom.detectors.activations:ReActDetector",
        "dice": "sisom.detectors.weights:DiceDetector",
        "ash-b": "sisom.detectors.activations:AshDetector",
        "scale": "sisom.detectors.activations:ScaleDetector",
        "she": "sisom.detectors.patterns:SheDetector",
        "grad-norm": "sisom.detectors.weights:GradNormDetector",
        "knn": "sisom.detectors.neighbors:KnnDetector",
        "mahalanobis": "sisom.detectors.gaussians:MahalanobisDetector",
        "relative-mahalanobis": "sisom.detectors.gaussians:RelativeMahalanobisDetector",
        "vim": "sisom.detectors.vim:VimDetector",
        "fdbd": "sisom.detectors.boundaries:FdbdDetector",
        "nac-ue": "sisom.detectors.coverage:NacDetector",
        "sisom": "sisom.detectors.sisom:SisomDetector",
        "sisome": "sisom.detectors.sisom:SisomeDetector",
        "sisom-fused": "sisom.detectors.fused:SisomFusedDetector",
    }
)

_BY_ROW = {
    "sisome": "sisom.selectors.by_score:SisomeSelector",
    "sisom": "sisom.selectors.by_score:SisomSelector",
    "energy": "sisom.selectors.by_score:EnergySelector",
    "random": "sisom.selectors.random:RandomSelector",
    "least-confidence": "sisom.selectors.uncertainty:LeastConfidenceSelector",
    "margin": "sisom.selectors.uncertainty:MarginSelector",
    "entropy": "sisom.selectors.uncertainty:EntropySelector",
    "bald": "sisom.selectors.committee:BaldSelector",
    "qbc-vote": "sisom.selectors.committee:VoteEntropySelector",
    "qbc-kl": "sisom.selectors.committee:KlSelector",
}

# Those that can be streamed: each row's priority is its own.
ROW_SELECTORS: Mapping[str, Callable[..., RowSelector]] = Table(_BY_ROW)

SELECTORS: Mapping[str, Callable[..., Selector]] = Table(
    {
        **_BY_ROW,
        "coreset": "sisom.selectors.coreset:CoreSetSelector",
        "badge": "sisom.selectors.badge:BadgeSelector",
        "typiclust": "sisom.selectors.typical:TypiClustSelector",
        "prob-cover": "sisom.selectors.coverage:ProbCoverSelector",
        "base": "sisom.selectors.boundaries:BaseSelector",
        "information-density": "sisom.selectors.density:InformationDensitySelector",
        "class-balanced": "sisom.selectors.class_balanced:ClassBalancedSelector",
        "sisome-greedy": "sisom.selectors.sisome_greedy:SisomeGreedySelector",
    }
)

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
    from sisom.selectors.base import RowSelector  # on use: it loads torch

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
