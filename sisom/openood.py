"""SISOM as a post-processor of the OpenOOD benchmark.

    post = SisomPostprocessor(slopes="cifar10", neighbors=5)
    post.setup(net, id_loader_dict, ood_loader_dict)
    prediction, confidence = post.postprocess(net, images)

Loaders yield dictionaries with "data" and "label". The confidence is higher for in-distribution images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sisom.bank.bank import FeatureBank
from sisom.bank.fit import fit_bank
from sisom.errors import InputError
from sisom.network.features import extract
from sisom.scoring import score
from sisom.types import Features
from sisom.verdicts import confidence

__all__ = ["SisomPostprocessor"]


class SisomPostprocessor:
    """SISOM behind the benchmark's interface.

    The interface keeps state between its calls; here that is one bank.
    """

    def __init__(
        self, *, layers: Sequence[str] | str = "auto", by: str = "sisome", slopes: Any = "cifar10", **fit: Any
    ) -> None:
        if by not in ("sisom", "sisome"):
            raise InputError(f'by must be "sisom" or "sisome", got {by!r}')
        self.layers, self.by, self.slopes, self.fit = layers, by, slopes, fit
        self.bank: FeatureBank | None = None

    def setup(
        self,
        net: nn.Module,
        id_loader_dict: Mapping[str, Iterable[Mapping[str, Tensor]]],
        ood_loader_dict: object = None,  # noqa: ARG002  the benchmark passes it; nothing here may look at it
    ) -> None:
        """Fit the bank on `id_loader_dict["train"]`, which should use the test transforms."""
        parts, labels = [], []
        for batch in id_loader_dict["train"]:
            parts.append(extract(net, batch["data"], self.layers))
            labels.append(batch["label"])
        self.bank = fit_bank(Features.concat(parts), torch.cat(labels), slopes=self.slopes, **self.fit)

    def postprocess(self, net: nn.Module, data: Tensor) -> tuple[Tensor, Tensor]:
        """Return predicted classes and confidences of a batch of images."""
        if self.bank is None:
            raise InputError("setup() must run before postprocess()")
        scores = score(self.bank, extract(net, data, self.bank.layers))
        return scores.predicted, confidence(scores.sisome if self.by == "sisome" else scores.sisom)
