"""Taps: how much of the network runs backward."""

import pytest
import torch
from torch import nn

from sisom import build_model, extract
from sisom.network.taps import _Alias


def images(n=3, size=16, seed=0):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_pooled_feature_alone_needs_no_backward_pass(monkeypatch):
    def refuse(*_args):
        raise AssertionError("a backward pass ran")

    monkeypatch.setattr(_Alias, "backward", staticmethod(refuse))
    model = build_model("resnet10_w16", 6, seed=0)
    assert extract(model, images(), ["avgpool"]).saliency.shape == (3, 128)
    with pytest.raises(AssertionError):
        extract(model, images(), ["layer3"])


def test_graph_starts_at_the_first_needed_layer():
    """Nothing before layer3 is asked for a gradient: the earlier outputs carry no history."""
    model = build_model("resnet10_w16", 6, seed=0)
    history = {}
    for name in ("layer2", "layer4"):
        model.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: history.update({name: out.requires_grad})
        )
    extract(model, images(), ["layer3", "avgpool"])
    assert history == {"layer2": False, "layer4": True}
    assert all(parameter.grad is None for parameter in model.parameters())


class InPlaceFlat(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(12, 5)
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(torch.relu_(self.body(x.flatten(1))))


def test_a_feature_changed_in_place_is_not_taken_for_the_classifier_input():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = InPlaceFlat()
    batch = torch.randn(6, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    found = extract(model, batch, ["body"])
    h = model.body(batch.flatten(1))
    pull = model.fc(h.relu()).softmax(1) - 1 / 3
    expected = h * (pull @ model.fc.weight) * (h > 0)
    assert torch.allclose(found.saliency, expected, atol=1e-7)
