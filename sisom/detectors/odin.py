"""ODIN (Liang et al. 2018): softmax confidence of a perturbed image.

It alone changes the image before the network sees it: features for `fit` and `score` are those of
`perturb(model, images)`.

    images = detector.perturb(model, images)
    scores = detector.score(state, extract(model, images))
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sisom.checks import check_features
from sisom.detectors.base import check_fit, strangeness
from sisom.errors import InputError, ShapeMismatch
from sisom.network.layers import unwrap
from sisom.network.taps import frozen_eval
from sisom.rowwise import rowwise
from sisom.softmax import doubt
from sisom.types import Features

__all__ = ["OdinDetector"]

_TILE = 32  # images per pass, the last one filled up, so that an image's step does not depend on its company


@dataclass(frozen=True)
class OdinDetector:
    """ODIN: `1 - max p` at a temperature, of a perturbed image.

    Args:
        temperature: of the softmax.
        noise: how far each pixel moves, before normalisation.
        std: the deviations that images were normalised with, one number or one for each channel; 1 for images that
            were not.
    """

    temperature: float = 1000.0
    noise: float = 0.0014
    std: float | Sequence[float] = 1.0

    needs = frozenset({"model"})

    def __post_init__(self) -> None:
        if not self.temperature > 0 or not self.noise >= 0:
            raise InputError(f"no such step: temperature {self.temperature}, noise {self.noise}")
        given = self.std if isinstance(self.std, Sequence) else [self.std]
        if not all(0 < one < math.inf for one in given):
            raise InputError(f"std must be positive numbers, one or one a channel, got {self.std!r}")

    def perturb(self, model: nn.Module, images: Float[Tensor, "n C H W"]) -> Float[Tensor, "n C H W"]:
        """Move images by `noise` towards their predicted class.

        Each pixel moves against the sign of the gradient of the prediction's cross-entropy.
        """
        net = unwrap(model)
        step = self.noise / torch.as_tensor(self.std, dtype=images.dtype).flatten()
        if len(step) not in (1, images.shape[1]):
            raise ShapeMismatch(f"{len(step)} deviations for {images.shape[1]} channels")
        home = next((parameter.device for parameter in net.parameters()), images.device)
        moved = []
        with torch.inference_mode(False), torch.enable_grad(), frozen_eval(net):
            for start in range(0, len(images), _TILE):
                part = images[start : start + _TILE]
                tile = part.new_zeros((_TILE, *images.shape[1:]), device=home)
                tile[: len(part)] = part.detach()
                tile.requires_grad_()
                logits = net(tile).float() / self.temperature
                loss = torch.nn.functional.cross_entropy(logits, logits.argmax(dim=1), reduction="sum")
                (gradient,) = torch.autograd.grad(loss, tile)
                moved.append((tile.detach() - step.to(home)[:, None, None] * gradient.sign())[: len(part)])
        return torch.cat(moved).to(images.device) if moved else images.clone()

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> tuple[()]:
        """Check the rows; nothing is fitted. See `Detector`."""
        check_fit(features, labels)
        return ()

    def score(self, state: tuple[()], features: Features) -> Float[Tensor, " n"]:  # noqa: ARG002
        """Score each row of features of perturbed images; see `Detector`."""
        check_features(features)
        return strangeness(rowwise(lambda logits: doubt(logits / self.temperature), features.logits))
