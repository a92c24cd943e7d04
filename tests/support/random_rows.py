"""Random features of rows in three classes."""

from __future__ import annotations

import torch

import sisom

DIMS = (("layer2", 5), ("avgpool", 8))


CLASSES = 3


def random_features(rows: int, seed: int) -> sisom.Features:
    rng = torch.Generator().manual_seed(seed)
    head = torch.randn(CLASSES, 8, generator=torch.Generator().manual_seed(99))
    h = torch.rand(rows, 8, generator=rng)
    return sisom.Features(torch.randn(rows, 13, generator=rng), DIMS, h, h @ head.T)
