"""Selectors: a pool and the labeled set in, the rows to ask about out.

Row selectors rank each row by itself and can be streamed; pool selectors look at all rows together.
"""

from sisom.selectors.badge import BadgeBlock, BadgeSelector, Gradients
from sisom.selectors.base import PoolSelector, RowSelector, Selector, top
from sisom.selectors.blocks import GreedySelector, pick_greedily, winner
from sisom.selectors.boundaries import BaseSelector
from sisom.selectors.by_score import EnergySelector, SisomeSelector, SisomSelector
from sisom.selectors.class_balanced import ClassBalancedSelector
from sisom.selectors.committee import (
    BaldSelector,
    KlSelector,
    VoteEntropySelector,
    dropout_votes,
    ensemble_votes,
)
from sisom.selectors.coreset import CoreSetSelector, KCenterBlock
from sisom.selectors.coverage import ProbCoverSelector
from sisom.selectors.density import InformationDensitySelector
from sisom.selectors.random import RandomSelector
from sisom.selectors.sisome_greedy import SisomeGreedySelector
from sisom.selectors.typical import TypiClustSelector
from sisom.selectors.uncertainty import EntropySelector, LeastConfidenceSelector, MarginSelector

__all__ = [
    "BadgeBlock",
    "BadgeSelector",
    "BaldSelector",
    "BaseSelector",
    "ClassBalancedSelector",
    "CoreSetSelector",
    "EnergySelector",
    "EntropySelector",
    "Gradients",
    "GreedySelector",
    "InformationDensitySelector",
    "KCenterBlock",
    "KlSelector",
    "LeastConfidenceSelector",
    "MarginSelector",
    "PoolSelector",
    "ProbCoverSelector",
    "RandomSelector",
    "RowSelector",
    "Selector",
    "SisomSelector",
    "SisomeGreedySelector",
    "SisomeSelector",
    "TypiClustSelector",
    "VoteEntropySelector",
    "dropout_votes",
    "ensemble_votes",
    "pick_greedily",
    "top",
    "winner",
]
