"""SISOM: one score for "worth a label" and "not of this world" (arXiv 2405.11337).

    features = extract(model, images, layers=("layer1", "layer2", "layer3", "avgpool"))
    bank = fit_bank(features, labels, slopes={"layer1": 1e-3, "layer2": 1e-3, "layer3": 1e3, "avgpool": 1e2})
    scores = score(bank, extract(model, other_images, layers=bank.layers))

Tensors in, tensors out: nothing here knows where it runs.
"""

from sisom import errors, metrics, selectors
from sisom.bank import average_ratio, fit_bank
from sisom.catalog import DETECTORS, SELECTORS
from sisom.errors import SisomError
from sisom.features import extract
from sisom.layers import auto_layers, check_layers
from sisom.models import MODELS, build_model, load_weights, save_weights
from sisom.scoring import score, threshold
from sisom.slopes import search_slopes
from sisom.state import load_bank
from sisom.types import FeatureBank, Features, Query, Scores

__all__ = [
    "DETECTORS",
    "MODELS",
    "SELECTORS",
    "FeatureBank",
    "Features",
    "Query",
    "Scores",
    "SisomError",
    "auto_layers",
    "average_ratio",
    "build_model",
    "check_layers",
    "errors",
    "extract",
    "fit_bank",
    "load_bank",
    "load_weights",
    "metrics",
    "save_weights",
    "score",
    "search_slopes",
    "selectors",
    "threshold",
]
