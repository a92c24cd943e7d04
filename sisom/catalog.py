"""The only table of names: what a configuration file may ask for."""

from collections.abc import Callable
from typing import Any

from sisom.detectors import Detector, EnergyDetector, SisomDetector, SisomeDetector
from sisom.selectors import EnergySelector, RandomSelector, Selector, SisomeSelector, SisomSelector

__all__ = ["DETECTORS", "SELECTORS"]

DETECTORS: dict[str, Callable[..., Detector[Any]]] = {
    "energy": EnergyDetector,
    "sisom": SisomDetector,
    "sisome": SisomeDetector,
}

SELECTORS: dict[str, Callable[..., Selector]] = {
    "sisome": SisomeSelector,
    "sisom": SisomSelector,
    "energy": EnergySelector,
    "random": RandomSelector,
}
