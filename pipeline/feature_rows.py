"""Features of single rows as bytes, for the way from the scoring actors to whoever looks at rows together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import sisom


def pack(
    features: sisom.Features, votes: Float[Tensor, "members n K"] | None = None, *, deep: bool
) -> list[bytes]:
    """Each row as little-endian float32: logits, penultimate features, of `deep` ones saliencies, and votes."""
    parts = [features.logits, features.penultimate, *([features.saliency] if deep else [])]
    parts += [] if votes is None else list(votes)
    rows = torch.cat([part.float().cpu() for part in parts], dim=1).numpy().astype("<f4", copy=False)
    return [row.tobytes() for row in rows]


def unpack(
    rows: Sequence[bytes], like: sisom.Features, *, deep: bool, members: int = 0
) -> tuple[sisom.Features, Float[Tensor, "members n K"] | None]:
    """The features again, their widths those of `like`, and the votes of `members`, None without any.

    Without `deep` there are no saliency columns.
    """
    layers = like.layer_dims if deep else ()
    classes = like.logits.shape[1]
    widths = [classes, like.penultimate.shape[1], sum(dim for _, dim in layers), members * classes]
    plain = np.frombuffer(b"".join(rows), "<f4").reshape(len(rows), sum(widths))
    parts = torch.split(torch.from_numpy(plain.astype(np.float32)), widths, dim=1)
    logits, penultimate, saliency, votes = (part.contiguous() for part in parts)
    features = sisom.Features(saliency, layers, penultimate, logits)
    ballots = votes.view(len(rows), members, classes).transpose(0, 1) if members else None
    return features, ballots
