"""Features of pixels, in passes of one size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import sisom
from pipeline.model.network import Network, normalise
from sisom.arrays import as_tensor


class Extractor:
    """Embed pixels in passes of one size.

    The last pass is padded, so that an image's features do not depend on how many images come with it.
    """

    def __init__(
        self, network: Network, device: str, batch_size: int, *, layers: Sequence[str] | None = None
    ) -> None:
        # On a GPU too, an image has the same features to the bit, in any batch and in any process.
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False
        self._model = network.model
        self._net = network.build(device)
        self._device = device
        self._layers = tuple(layers or network.model.layers)
        self._batch_size = batch_size
        # A CPU is fastest if a pass stays in its cache, a GPU if it is full.
        self._tile = batch_size if device == "cuda" else min(32, batch_size)

    def __call__(self, pixels: NDArray[np.uint8]) -> sisom.Features:
        """Return features of (n,3,s,s) uint8 pixels, n > 0, on the device."""
        return self._features(pixels, self._layers, lambda images: images)

    def moved(self, pixels: NDArray[np.uint8], detector: Any) -> sisom.Features:
        """Return last-layer features of images that a detector has moved.

        Such a detector needs the model.
        """
        return self._features(pixels, self._layers[-1:], lambda images: detector.perturb(self._net, images))

    def _features(
        self,
        pixels: NDArray[np.uint8],
        layers: Sequence[str],
        prepare: Callable[[torch.Tensor], torch.Tensor],
    ) -> sisom.Features:
        parts = []
        for start in range(0, len(pixels), self._batch_size):
            part = as_tensor(pixels[start : start + self._batch_size]).to(self._device)
            images = prepare(normalise(part, self._model))
            parts.append(sisom.extract(self._net, images, layers, tile=self._tile))
        return sisom.Features.concat(parts)
