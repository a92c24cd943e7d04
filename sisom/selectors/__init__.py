"""Selectors: a pool and the labeled set in, the rows to ask about out.

Row selectors rank each row by itself and can be streamed; pool selectors look at all rows together.
"""

from sisom.selectors.base import PoolSelector, RowSelector, Selector, top
from sisom.selectors.by_score import EnergySelector, SisomeSelector, SisomSelector
from sisom.selectors.committee import BaldSelector, KlSelector, VoteEntropySelector
from sisom.selectors.random import RandomSelector
from sisom.selectors.uncertainty import EntropySelector, LeastConfidenceSelector, MarginSelector

__all__ = [
    "BaldSelector",
    "EnergySelector",
    "EntropySelector",
    "KlSelector",
    "LeastConfidenceSelector",
    "MarginSelector",
    "PoolSelector",
    "RandomSelector",
    "RowSelector",
    "Selector",
    "SisomSelector",
    "SisomeSelector",
    "VoteEntropySelector",
    "top",
]
