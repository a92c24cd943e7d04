"""Configs with another detector, and labeled features to fit it on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import sisom
from pipeline.config.project import Config
from pipeline.model.extractor import Extractor
from tests.support.scoring_lab import SIZE, Lab, config_of


def judged_by(name: str, pool: Any = "unused", **changes: Any) -> Config:
    scoring = {"batch_size": 16, "max_quarantined": 1.0, "max_pixels": 1_000_000, "score": name}
    return config_of(pool, scoring=scoring | changes.pop("scoring", {}), **changes)


def labeled(lab: Lab) -> tuple[sisom.Features, torch.Tensor]:
    pixels = np.random.default_rng(7).integers(0, 256, (48, 3, SIZE, SIZE), np.uint8)
    return Extractor(lab.network, "cpu", 16)(pixels), torch.arange(48) % 3
