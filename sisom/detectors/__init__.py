"""Detectors: features in, "how strange" out; one score a row, higher is stranger."""

from sisom.detectors.base import Detector
from sisom.detectors.energy import EnergyDetector
from sisom.detectors.sisom import SisomDetector, SisomeDetector

__all__ = ["Detector", "EnergyDetector", "SisomDetector", "SisomeDetector"]
