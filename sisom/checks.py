"""Checks of features and labels that every entry point shares."""

import torch
from torch import Tensor

from sisom.errors import EmptyInput, LabelError, NonFinite, ShapeMismatch
from sisom.rowwise import row_tiles
from sisom.types import Features

__all__ = ["check_features", "check_labels"]

_TILE = 4096  # isfinite makes copies, and a pool is large


def check_features(features: Features) -> None:
    """Raise `NonFinite`, naming the rows with a NaN or an infinity."""
    if all(_all_finite(part) for part in (features.saliency, features.penultimate, features.logits)):
        return
    bad = torch.zeros(len(features), dtype=torch.bool, device=features.saliency.device)
    for tile in row_tiles(len(features), _TILE):
        for tensor in (features.saliency, features.penultimate, features.logits):
            bad[tile] |= ~torch.isfinite(tensor[tile]).all(dim=1)
    rows = tuple(int(row) for row in bad.nonzero().flatten().tolist())
    shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
    raise NonFinite(f"{len(rows)} of {len(features)} feature rows are not finite: rows {shown}", rows)


def _all_finite(values: Tensor) -> bool:
    """Check finiteness by the extremes, which NaN takes part in.

    That makes nothing as large as the values.
    """
    return values.numel() == 0 or bool(torch.isfinite(torch.stack(torch.aminmax(values))).all())


def check_labels(labels: Tensor, rows: int, num_classes: int) -> None:
    """Raise for labels that are not `rows` classes below `num_classes`.

    Raises:
        EmptyInput: without rows.
        ShapeMismatch: for another number of labels.
        LabelError: for a label that is no class.
    """
    if rows == 0:
        raise EmptyInput("no labeled rows")
    if tuple(labels.shape) != (rows,):
        raise ShapeMismatch(f"{rows} feature rows need {rows} labels, got shape {tuple(labels.shape)}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise LabelError(f"labels must lie in 0 to {num_classes - 1}, found {low if low < 0 else high}")
