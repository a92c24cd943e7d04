"""Detectors: features in, "how strange" out; one score a row, higher is stranger."""

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

__all__ = [
    "AshDetector",
    "Detector",
    "DiceDetector",
    "EnergyDetector",
    "FdbdDetector",
    "GenDetector",
    "GradNormDetector",
    "KnnDetector",
    "MahalanobisDetector",
    "MaxLogitDetector",
    "MspDetector",
    "NacDetector",
    "OdinDetector",
    "ReActDetector",
    "RelativeMahalanobisDetector",
    "ScaleDetector",
    "SheDetector",
    "SisomDetector",
    "SisomFusedDetector",
    "SisomeDetector",
    "TempScaleDetector",
    "VimDetector",
]
