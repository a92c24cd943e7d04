"""Features of single rows as bytes.

Scoring actors pack them for the process that looks at rows together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

import sisom


def pack(features: sisom.Features, *, deep: bool) -> list[bytes]:
    """Pack features as little-endian float32, one item a row.

    A row holds logits, penultimate features and, if `deep`, saliencies.
    """
    parts = [features.logits, features.penultimate, *([features.saliency] if deep else [])]
    rows = torch.cat([part.float().cpu() for part in parts], dim=1).numpy().astype("<f4", copy=False)
    return [row.tobytes() for row in rows]


def unpack(rows: Sequence[bytes], like: sisom.Features, *, deep: bool) -> sisom.Features:
    """Unpack features whose widths are those of `like`.

    Without `deep` there are no saliency columns.
    """
    layers = like.layer_dims if deep else ()
    widths = [like.logits.shape[1], like.penultimate.shape[1], sum(dim for _, dim in layers)]
    plain = np.frombuffer(b"".join(rows), "<f4").reshape(len(rows), sum(widths))
    logits, penultimate, saliency = torch.split(torch.from_numpy(plain.astype(np.float32)), widths, dim=1)
    return sisom.Features(saliency.contiguous(), layers, penultimate.contiguous(), logits.contiguous())
