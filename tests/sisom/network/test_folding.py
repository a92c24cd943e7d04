"""Batch norms folded for the length of an extraction: same features, and nobody notices."""

import pytest
import torch
from torch import nn

from sisom import build_model, extract
from sisom.network.folding import folded
from tests.support.smooth import smooth

LAYERS = ("layer1", "layer2", "layer3", "avgpool")


def worn(name="resnet10_w16"):
    """A net whose batch norms have seen something, so that folding them has something to do."""
    model = build_model(name, 6, seed=0).eval()
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(generator=g)
                module.running_var.uniform_(0.5, 2.0, generator=g)
                module.weight.uniform_(0.5, 1.5, generator=g)
                module.bias.normal_(generator=g)
    return model


def norms(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def images(n, size=32):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["resnet10_w16", "resnet18", "resnet50"])
def test_every_batch_norm_of_a_residual_net_is_folded(name):
    model = worn(name)
    x = images(2)
    expected = model(x).detach()
    with folded(model, LAYERS):
        assert all("forward" in norm.__dict__ for norm in norms(model))
        torch.testing.assert_close(
            model(x).detach(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())
        )


def test_features_are_as_near_to_float64_as_without_folding(monkeypatch):
    model, x = smooth(worn()), images(8)
    found = extract(model, x, LAYERS).saliency.double()
    monkeypatch.setattr("sisom.network.folding._BLOCKS", {})
    monkeypatch.setattr("sisom.network.folding._SEQUENCES", ())
    plain = extract(model, x, LAYERS).saliency.double()
    truth = extract(model.double(), x.double(), LAYERS).saliency.double()
    assert not torch.equal(found, plain)
    assert float((found - truth).norm()) <= 2 * float((plain - truth).norm()) <= 1e-5 * float(truth.norm())


@pytest.mark.parametrize("name", ["resnet10_w16", "resnet18"])
def test_folded_features_are_the_plain_ones_to_rounding(name, monkeypatch):
    model, x = worn(name), images(4)
    found = extract(model, x, LAYERS).saliency
    assert norms(model)
    monkeypatch.setattr("sisom.network.folding._BLOCKS", {})
    monkeypatch.setattr("sisom.network.folding._SEQUENCES", ())
    expected = extract(model, x, LAYERS).saliency
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("broken", [False, True])
def test_the_model_is_afterwards_what_it_was(broken):
    model = worn()
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in model.state_dict().items()}
    expected = model(images(2)).detach()
    try:
        extract(model, images(2, 32) if not broken else torch.zeros(2, 4, 32, 32), LAYERS)
    except RuntimeError:
        assert broken
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(
        after[name].data_ptr() == place and after[name].equal(old) for name, (place, old) in before.items()
    )
    assert all("forward" not in module.__dict__ for module in model.modules())
    assert model(images(2)).detach().equal(expected)


def test_new_weights_are_seen_at_once():
    model, x = worn(), images(3)
    first = extract(model, x, LAYERS)
    with torch.no_grad():
        model.layer2[0].bn1.running_mean.add_(1.0)
    assert not extract(model, x, LAYERS).logits.equal(first.logits)


def test_a_convolution_that_somebody_looks_at_stays():
    model, x = worn(), images(3)
    raw = model.conv1(x).detach()
    seen = []
    handle = model.layer1[0].conv2.register_forward_hook(lambda _m, _i, out: seen.append(out.detach()))
    features = extract(model, x, ["conv1", "avgpool"], tile=3)
    handle.remove()
    with folded(model, ["conv1"]):
        assert "forward" not in model.bn1.__dict__
        assert model.conv1(x).equal(raw)
    assert features.layer_dims[0] == ("conv1", 16)
    assert len(seen) == 1
    inside = model.layer1[0].relu(model.layer1[0].bn1(model.layer1[0].conv1(model.relu(model.bn1(raw)))))
    torch.testing.assert_close(seen[0], model.layer1[0].conv2(inside).detach(), rtol=1e-4, atol=1e-4)


def test_a_norm_that_runs_twice_or_has_no_statistics_stays():
    conv, norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
    twice = nn.Sequential(conv, norm, nn.Sequential(conv, norm)).eval()
    without = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)).eval()
    for model in (twice, without):
        with folded(model, []):
            assert all("forward" not in module.__dict__ for module in model.modules())


def test_a_folded_norm_can_still_be_read(monkeypatch):
    model, x = smooth(worn()), images(4)
    found = extract(model, x, ["layer2.0.bn1", "avgpool"])
    monkeypatch.setattr("sisom.network.folding._BLOCKS", {})
    plain = extract(model, x, ["layer2.0.bn1", "avgpool"])
    scale = float(plain.saliency.abs().max())
    torch.testing.assert_close(found.saliency, plain.saliency, rtol=1e-4, atol=1e-5 * scale)
