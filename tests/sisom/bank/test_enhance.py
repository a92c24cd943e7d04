"""The enhancement by hand, and slopes that do not fit."""

import math

import pytest
import torch

from sisom import errors
from sisom.bank.enhance import columns_of, enhance, resolve_slopes

DIMS = (("a", 2), ("b", 1))


def test_it_is_the_sigmoid_less_one_half():
    saliency = torch.tensor([[0.5, -1.0, 2.0]])
    found = enhance(saliency, DIMS, (("a", 3.0), ("b", 0.5)))
    sigmoid = [1 / (1 + math.exp(-t)) - 0.5 for t in (1.5, -3.0, 1.0)]
    assert found[0].tolist() == pytest.approx(sigmoid, abs=1e-7)


def test_layers_come_in_the_order_of_their_slopes_and_others_not_at_all():
    saliency = torch.tensor([[0.5, -1.0, 2.0]])
    b, a = enhance(saliency, DIMS, (("b", 1.0),)), enhance(saliency, DIMS, (("a", 1.0),))
    assert torch.equal(enhance(saliency, DIMS, (("b", 1.0), ("a", 1.0))), torch.cat([b, a], dim=1))
    assert enhance(saliency, DIMS, ()).shape == (1, 0)


def test_what_is_too_large_saturates():
    assert enhance(torch.tensor([[3e38, -3e38, 0.0]]), DIMS, (("a", 1e10),)).tolist() == [[0.5, -0.5]]


def test_a_slope_for_a_layer_that_the_features_lack():
    with pytest.raises(errors.LayerError, match="lack layer 'bb'; the nearest they have is 'b'"):
        enhance(torch.zeros(1, 3), DIMS, (("bb", 1.0),))


def test_where_the_columns_of_a_layer_lie():
    assert columns_of(DIMS) == {"a": slice(0, 2), "b": slice(2, 3)}


def test_one_number_serves_all_layers_and_a_mapping_keeps_their_order():
    assert resolve_slopes(2.0, ["a", "b"]) == (("a", 2.0), ("b", 2.0))
    assert resolve_slopes({"b": 1.0, "a": 2.0}, ["a", "b"]) == (("a", 2.0), ("b", 1.0))


@pytest.mark.parametrize(
    ("slopes", "message"),
    [
        ({"a": 1.0}, "no slope given for layer 'b'"),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, "unknown layer 'c'"),
        (-1.0, "must be finite and not negative"),
        (math.nan, "must be finite and not negative"),
    ],
)
def test_slopes_that_no_bank_can_have(slopes, message):
    with pytest.raises(errors.SlopeError, match=message):
        resolve_slopes(slopes, ["a", "b"])
