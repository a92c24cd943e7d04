"""Catalogue detectors in SISOM's place.

SISOM's own three scores come out of the bank. Another detector says how strange a row is, and marks it out of
distribution. It is fitted to the features of the labeled rows, which a round keeps. Fitting again returns the same
state, so the state needs no format of its own in storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import sisom
from pipeline.config.project import Config
from pipeline.config.sections import Model
from pipeline.errors import ConfigError, LabelError
from pipeline.model.extractor import Extractor
from sisom.catalog import build_detector
from sisom.network.head import Head


@dataclass(frozen=True)
class FittedDetector:
    """A detector and its fitted state; scores are computed on the CPU."""

    detector: Any
    state: Any

    def score(self, features: sisom.Features) -> Tensor:
        """Return (n,) float32 strangeness of features; higher is stranger.

        The features are those that the detector needs.
        """
        found: Tensor = self.detector.score(self.state, features.to("cpu"))
        return found

    def judge(self, extract: Extractor, pixels: NDArray[np.uint8], features: sisom.Features) -> Tensor:
        """Return (n,) float32 strangeness of (n,3,s,s) pixels.

        `features` are those of the pixels. A detector that moves images does not use them: it extracts features of the
        moved images.
        """
        return self.score(
            extract.moved(pixels, self.detector) if "model" in self.detector.needs else features
        )


def detector_for(name: str, options: Mapping[str, Any], model: Model, *, head: sisom.Head | None) -> Any:
    """Build a detector of the catalogue for a network.

    One that moves images gets the standard deviation by which they were normalised.

    Raises:
        sisom.errors.InputError: an option that it does not have, or a value that it refuses.
    """
    moves = "model" in getattr(sisom.DETECTORS[name], "needs", ())
    return build_detector(name, head=head, **({"std": model.std} if moves else {}) | dict(options))


def fit(
    config: Config, model: torch.nn.Module, features: sisom.Features, *, targets: Tensor
) -> FittedDetector | None:
    """Fit the config's detector to labeled rows.

    Returns None if the config asks for the bank's own score.

    Raises:
        ConfigError: an option that the detector does not have, or a value that it refuses.
        LabelError: too few labels for it.
    """
    if config.scoring.from_bank:
        return None
    name = config.scoring.score
    try:
        detector = detector_for(name, config.scoring.options, config.model, head=Head.of(model))
        return FittedDetector(detector, detector.fit(features, targets))
    except (sisom.errors.InputError, sisom.errors.UnknownName, TypeError) as error:
        raise ConfigError(f"scoring.score: {name}: {error}") from None
    except sisom.errors.TooFewLabels as error:
        raise LabelError(
            f"scoring.score: {name}: {error}; label more, or let sisome judge until then"
        ) from None
