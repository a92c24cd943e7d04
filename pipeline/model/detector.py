"""Any detector of the catalogue in SISOM's place: what says how strange a row is, and marks it out of distribution.

SISOM's own three scores come out of the bank. Another detector is fitted to the features of the labeled rows, which
a round keeps: fitting again gives the same state, so that no state needs a form of its own in storage.
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
    """A detector and what it has learned; scores are computed on the CPU."""

    detector: Any
    state: Any

    def score(self, features: sisom.Features) -> Tensor:
        """(n,) float32 of features as the detector wants them, higher is stranger."""
        found: Tensor = self.detector.score(self.state, features.to("cpu"))
        return found

    def judge(self, extract: Extractor, pixels: NDArray[np.uint8], features: sisom.Features) -> Tensor:
        """(n,) float32 of (n,3,s,s) pixels whose `features` are at hand; a detector may want others of them."""
        return self.score(
            extract.moved(pixels, self.detector) if "model" in self.detector.needs else features
        )


def detector_for(name: str, options: Mapping[str, Any], model: Model, *, head: sisom.Head | None) -> Any:
    """A detector of the catalogue for a network: one that moves images is told how these were normalised.

    Raises:
        sisom.errors.InputError: an option that it does not have, or a value that it refuses.
    """
    moves = "model" in getattr(sisom.DETECTORS[name], "needs", ())
    return build_detector(name, head=head, **({"std": model.std} if moves else {}) | dict(options))


def fit(
    config: Config, model: torch.nn.Module, features: sisom.Features, *, targets: Tensor
) -> FittedDetector | None:
    """The config's detector fitted to labeled rows; None where the bank's own score is asked for.

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
