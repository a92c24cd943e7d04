"""NumPy arrays as tensors, without copying memory of another process."""

import warnings

import numpy as np
import torch
from torch import Tensor

__all__ = ["as_tensor"]


def as_tensor(array: np.ndarray) -> Tensor:
    """Return a tensor over the same memory, also of a read-only array.

    torch warns about read-only arrays because a write through the tensor would be undefined. Nothing in this
    package writes to what it is given, and a copy of a bank in every worker is what shared memory is there to
    avoid.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(array))
