from . import errors, metrics
from .bank.bank import FeatureBank, load_bank
from .bank.fit import average_ratio, fit_bank
from .bank.slopes import reduced_slopes, search_slopes, sweep_slopes
from .bank.spec import BankSpec
from .bank.updates import add_labeled, merge_banks, raise_classes, remove_rows
from .catalog import DETECTORS, ROW_SELECTORS, SELECTORS, build_detector, build_selector
from .errors import LayerError, SisomError, TooFewLabels
from .network.features import extract
from .network.head import Head
from .network.layers import auto_layers, check_layers
from .network.models import MODELS, build_model, load_weights, save_weights
from .scoring import score
from .selectors.class_balanced import class_balanced
from .selectors.sisome_greedy import greedy
from .sweeps import SWEEPS, choose_options, search_options
from .types import Candidates, Features, Labeled, Scores
from .verdicts import confidence, is_ood, p_values, threshold

__all__ = [
    "DETECTORS",
    "MODELS",
    "ROW_SELECTORS",
    "SELECTORS",
    "SWEEPS",
    "BankSpec",
    "Candidates",
    "FeatureBank",
    "Features",
    "Head",
    "Labeled",
    "LayerError",
    "Scores",
    "SisomError",
    "TooFewLabels",
    "add_labeled",
    "auto_layers",
    "average_ratio",
    "build_detector",
    "build_model",
    "build_selector",
    "check_layers",
    "choose_options",
    "class_balanced",
    "confidence",
    "errors",
    "extract",
    "fit_bank",
    "greedy",
    "is_ood",
    "load_bank",
    "load_weights",
    "merge_banks",
    "metrics",
    "p_values",
    "raise_classes",
    "reduced_slopes",
    "remove_rows",
    "save_weights",
    "score",
    "search_options",
    "search_slopes",
    "sweep_slopes",
    "threshold",
]
