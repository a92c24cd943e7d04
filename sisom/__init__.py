"""SISOM: one score for labeling and for out-of-distribution detection (arXiv 2405.11337).

    features = extract(model, images, layers=("layer1", "layer2", "layer3", "avgpool"))
    bank = fit_bank(features, labels, slopes={"layer1": 1e-3, "layer2": 1e-3, "layer3": 1e3, "avgpool": 1e2})
    scores = score(bank, extract(model, other_images, layers=bank.layers))

Tensors in, tensors out: nothing here knows where it runs.
"""

from sisom import errors, metrics
from sisom.bank.bank import FeatureBank, load_bank
from sisom.bank.fit import average_ratio, fit_bank
from sisom.bank.slopes import reduced_slopes, search_slopes, sweep_slopes
from sisom.bank.spec import BankSpec
from sisom.bank.updates import add_labeled, merge_banks, raise_classes, remove_rows
from sisom.catalog import DETECTORS, ROW_SELECTORS, SELECTORS, build_detector, build_selector
from sisom.errors import LayerError, SisomError, TooFewLabels
from sisom.network.features import extract
from sisom.network.head import Head
from sisom.network.layers import auto_layers, check_layers
from sisom.network.models import MODELS, build_model, load_weights, save_weights
from sisom.scoring import score
from sisom.selectors.class_balanced import class_balanced
from sisom.selectors.sisome_greedy import greedy
from sisom.sweeps import SWEEPS, choose_options, search_options
from sisom.types import Candidates, Features, Labeled, Scores
from sisom.verdicts import confidence, is_ood, p_values, threshold

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
