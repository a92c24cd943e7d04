"""Features of every kind of net, and what extraction leaves alone."""

import contextlib
import copy

import pytest
import torch
from torch import nn

from sisom import LayerError, build_model, errors, extract
from tests.support.smooth import smooth

LAYERS = ("layer1", "layer2", "layer3", "avgpool")


def images(n=3, size=16, seed=0):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def by_autograd(model, batch, layers, pools):
    """z * g by hooks and one plain backward pass, pooled by the given functions."""
    net = copy.deepcopy(model).eval()
    seen = {}
    for name in layers:
        net.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    logits = net(batch)
    loss = -torch.log_softmax(logits, dim=1).mean(dim=1).sum()
    grads = torch.autograd.grad(loss, [seen[name] for name in layers])
    parts = [p(seen[n]) * p(g) for n, g, p in zip(layers, grads, pools, strict=True)]
    return torch.cat(parts, dim=1).detach()


maps = lambda x: x.mean(dim=(2, 3))  # noqa: E731
last = lambda x: x.mean(dim=(1, 2))  # noqa: E731
tokens = lambda x: x.mean(dim=1)  # noqa: E731
first = lambda x: x[:, 0]  # noqa: E731
FAMILIES = {
    "resnet10_w16": (16, [maps] * 4),
    "resnet18": (64, [maps] * 4),
    "resnet34": (32, [maps] * 4),
    "resnet50": (32, [maps] * 4),
    "convnext_tiny": (64, [maps] * 4),
    "swin_t": (64, [last, last, last, maps]),
    "vit_b_16": (224, [tokens, tokens, tokens, first]),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_automatic_layers_of_every_family(name):
    size, pools = FAMILIES[name]
    model = smooth(build_model(name, 5, seed=0))
    if name == "vit_b_16":  # its head starts at zero, which lets no gradient through
        nn.init.normal_(model.heads.head.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    check_saliencies(model, images(2, size), pools)


@pytest.mark.parametrize("name", [name for name in FAMILIES if "resnet" in name])
def test_gates_of_residual_nets_in_float64(name):
    size, pools = FAMILIES[name]
    check_saliencies(build_model(name, 5, seed=0).double(), images(2, size).double(), pools)


def check_saliencies(model, batch, pools):
    features = extract(model, batch, "auto", tile=2)
    expected = by_autograd(model, batch, features.layers, pools)
    start = 0
    for layer, dim in features.layer_dims:
        ours, theirs = features.saliency[:, start : start + dim], expected[:, start : start + dim]
        assert float((ours - theirs).abs().max()) <= 3e-5 * float(theirs.abs().max()), layer
        start += dim
    assert float(expected.abs().max()) > 0


def test_last_layer_identity():
    """The saliency of the classifier's input adds up to sum_k (p_k - 1/K)(l_k - b_k)."""
    model = build_model("resnet10_w16", 6, seed=0)
    features = extract(model, images(5), ["avgpool"])
    pull = features.logits.softmax(1) - 1 / 6
    expected = (pull * (features.logits - model.fc.bias)).sum(1)
    assert torch.allclose(features.saliency.sum(1), expected, atol=1e-6)


def test_sum_pooling_is_the_mean_times_positions_squared():
    model = build_model("resnet10_w16", 6, seed=0)
    mean = extract(model, images(), ["layer2"])
    total = extract(model, images(), ["layer2"], pooling="sum")
    assert torch.allclose(total.saliency, mean.saliency * 64**2, rtol=1e-4)


@pytest.mark.parametrize("tile", [1, 4, 32])
def test_features_do_not_depend_on_the_batch(tile):
    model = build_model("resnet10_w16", 6, seed=0)
    batch = images(9)
    whole = extract(model, batch, LAYERS, tile=tile)
    order = torch.tensor([4, 0, 8])
    part = extract(model, batch[order], LAYERS, tile=tile)
    assert torch.equal(part.saliency, whole.saliency[order])
    assert torch.equal(part.logits, whole.logits[order])


def test_caller_state_is_restored():
    model = build_model("resnet10_w16", 6, seed=0)
    model.train()
    model.layer2.eval()
    model.fc.weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    buffers = {name: value.clone() for name, value in model.state_dict().items()}
    for batch, layers in (
        (images(), LAYERS),
        (torch.randn(2, 5, 8, 8), LAYERS),
        (images(), ["dropout", "fc"]),
    ):
        with contextlib.suppress(RuntimeError, LayerError):
            extract(model, batch, layers)
        assert [module.training for module in model.modules()] == modes
        assert [parameter.requires_grad for parameter in model.parameters()] == flags
        assert all(not module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, buffers[name]) for name, value in model.state_dict().items())


def test_train_mode_and_dropout_change_nothing():
    from sisom.network.models import CifarResNet

    with torch.random.fork_rng(devices=[]):
        model = CifarResNet((1, 1), 8, num_classes=4, dropout=0.5)
    quiet = extract(model.eval(), images(), ["layer1", "avgpool"])
    loud = extract(model.train(), images(), ["layer1", "avgpool"])
    assert torch.equal(quiet.saliency, loud.saliency)
    assert model.training


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_whatever_the_caller_thinks_of_autograd(context):
    model = build_model("resnet10_w16", 6, seed=0)
    expected = extract(model, images(), LAYERS)
    with context():
        batch = images() * 1.0
        found = extract(model, batch, LAYERS)
    assert torch.equal(found.saliency, expected.saliency)
    assert not found.saliency.is_inference() and not found.saliency.requires_grad


def test_a_model_built_in_inference_mode():
    expected = extract(build_model("resnet10_w16", 6, seed=0), images(), LAYERS)
    with torch.inference_mode():
        model = build_model("resnet10_w16", 6, seed=0)
        found = extract(model, images(), LAYERS)
    assert torch.equal(found.saliency, expected.saliency)


def test_frozen_model():
    model = build_model("resnet10_w16", 6, seed=0).requires_grad_(False)
    assert extract(model, images(), LAYERS).saliency.abs().max() > 0


def test_compiled_model_is_read_through_its_wrapper():
    model = build_model("resnet10_w16", 6, seed=0)
    expected = extract(model, images(), LAYERS)
    compiled = torch.compile(model, backend="eager")
    assert torch.equal(extract(compiled, images(), LAYERS).saliency, expected.saliency)


class InPlace(nn.Module):
    """Every stage starts by changing the previous stage's output in place."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3)
        self.b = nn.Conv2d(4, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = self.relu(self.a(x))
        x = self.relu(self.b(x))
        return self.fc(self.relu(self.pool(x) - 0.01).flatten(1))


def test_in_place_operations_after_a_tapped_layer():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = InPlace().double()
    batch = images(4).double()
    found = extract(model, batch, ["a", "b", "pool"])
    plain = copy.deepcopy(model)
    plain.relu = nn.ReLU()
    expected = by_autograd(plain, batch, ["a", "b", "pool"], [maps] * 3)
    assert torch.allclose(found.saliency, expected.float(), rtol=1e-4, atol=1e-8)


def test_bad_images():
    model = build_model("resnet10_w16", 6, seed=0)
    with pytest.raises(errors.EmptyInput):
        extract(model, images()[:0], LAYERS)
    with pytest.raises(errors.ShapeMismatch):
        extract(model, images(), LAYERS, tile=0)


def test_mixed_precision_keeps_logits_and_ranking():
    model = build_model("resnet10_w16", 6, seed=0)
    exact = extract(model, images(24), ["layer3", "avgpool"])
    mixed = extract(model, images(24), ["layer3", "avgpool"], precision="bfloat16")
    assert mixed.saliency.dtype == mixed.logits.dtype == torch.float32
    assert not torch.equal(mixed.logits, exact.logits)
    pair = torch.stack([mixed.saliency.flatten(), exact.saliency.flatten()])
    assert float(torch.corrcoef(pair)[0, 1]) > 0.99
