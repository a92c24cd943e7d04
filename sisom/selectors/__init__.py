"""Selectors: the scores of a pool in, a priority for each row out; the rows with the highest are asked
about.
"""

from sisom.selectors.base import Selector, top
from sisom.selectors.by_score import EnergySelector, SisomeSelector, SisomSelector
from sisom.selectors.random import RandomSelector

__all__ = ["EnergySelector", "RandomSelector", "Selector", "SisomSelector", "SisomeSelector", "top"]
