"""Tensors over arrays that somebody else owns."""

import numpy as np
import torch

from sisom.arrays import as_tensor


def test_a_read_only_array_is_shared_in_silence():
    array = np.arange(6.0).reshape(2, 3)
    array.setflags(write=False)
    tensor = as_tensor(array)
    assert tensor.data_ptr() == array.ctypes.data
    assert torch.equal(tensor, torch.arange(6.0, dtype=torch.float64).reshape(2, 3))


def test_columns_of_an_array_are_laid_out_anew():
    array = np.arange(6.0).reshape(2, 3)
    tensor = as_tensor(array[:, ::2])
    assert tensor.is_contiguous()
    assert tensor.tolist() == [[0.0, 2.0], [3.0, 5.0]]
