"""Any detector of the catalogue in SISOM's place: what says how strange a row is, and marks it out of distribution.

SISOM's own three scores come out of the bank. Another detector is fitted to the features of the labeled rows, which
a round keeps: fitting again gives the same state, so that no state needs a form of its own in storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

import sisom
from pipeline.config import Config
from pipeline.errors import ConfigError, LabelError
from pipeline.sections import Model
from pipeline.stages import Extractor, Network
from pipeline.workspace import Workspace, round_key
from sisom.catalog import build_detector
from sisom.head import Head

FEATURES: Final = "labeled-features.safetensors"


@dataclass(frozen=True)
class Fitted:
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


def detector_for(name: str, options: Mapping[str, Any], model: Model, head: sisom.Head | None) -> Any:
    """A detector of the catalogue for a network: one that moves images is told how these were normalised.

    Raises:
        sisom.errors.InputError: an option that it does not have, or a value that it refuses.
    """
    moves = "model" in getattr(sisom.DETECTORS[name], "needs", ())
    return build_detector(name, head=head, **({"std": model.std} if moves else {}) | dict(options))


def fit(config: Config, model: torch.nn.Module, features: sisom.Features, targets: Tensor) -> Fitted | None:
    """The config's detector fitted to labeled rows; None where the bank's own score is asked for.

    Raises:
        ConfigError: an option that the detector does not have, or a value that it refuses.
        LabelError: too few labels for it.
    """
    if config.scoring.from_bank:
        return None
    name = config.scoring.score
    try:
        detector = detector_for(name, config.scoring.options, config.model, Head.of(model))
        return Fitted(detector, detector.fit(features, targets))
    except (sisom.errors.InputError, TypeError) as error:
        raise ConfigError(f"scoring.score: {name}: {error}") from None
    except sisom.errors.TooFewLabels as error:
        raise LabelError(
            f"scoring.score: {name}: {error}; label more, or let sisome judge until then"
        ) from None


def keep_features(workspace: Workspace, index: int, features: sisom.Features, targets: Tensor) -> None:
    """Store what a detector is fitted to, as safetensors: the saliencies of each layer under its place and name."""
    dims = [dim for _, dim in features.layer_dims]
    layers = zip(features.layer_dims, torch.split(features.saliency, dims, dim=1), strict=True)
    tensors = {f"saliency/{place:03d}/{name}": part for place, ((name, _), part) in enumerate(layers)}
    tensors |= {"penultimate": features.penultimate, "logits": features.logits, "targets": targets}
    data = save_tensors({name: tensor.contiguous() for name, tensor in tensors.items()})
    workspace.store.put(round_key(index, FEATURES), data)


def stored_detector(workspace: Workspace, index: int, network: Network, config: Config) -> Fitted | None:
    """The detector of a round, fitted again; None where the bank's own score was asked for."""
    if config.scoring.from_bank:
        return None
    found = load_tensors(workspace.store.get(round_key(index, FEATURES)))
    layers = [(key.split("/", 2)[2], found[key]) for key in sorted(found) if key.startswith("saliency/")]
    features = sisom.Features(
        torch.cat([part for _, part in layers], dim=1),
        tuple((name, part.shape[1]) for name, part in layers),
        found["penultimate"],
        found["logits"],
    )
    return fit(config, network.build("cpu"), features, found["targets"])
