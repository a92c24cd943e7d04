"""Models by name, their weights and growing heads."""

import pytest
import torch

import sisom
from sisom import MODELS, build_model, errors, load_weights, save_weights
from sisom.network.models import grow_head


def test_builds_are_seeded_and_leave_the_global_state_alone():
    before = torch.get_rng_state()
    one, two, other = (build_model("resnet10_w16", 4, seed=s) for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.fc.weight, two.fc.weight) and not torch.equal(one.fc.weight, other.fc.weight)


@pytest.mark.parametrize("name", ["resnet10_w16", "cifar_resnet18", "cifar_resnet34"])
def test_cifar_nets_have_the_usual_widths(name):
    model = build_model(name, 10, seed=0)
    dims = dict(sisom.extract(model, torch.zeros(1, 3, 32, 32), tile=1).layer_dims)
    width = 16 if name == "resnet10_w16" else 64
    assert dims == {"layer1": width, "layer2": 2 * width, "layer3": 4 * width, "avgpool": 8 * width}
    count = sum(p.numel() for p in model.parameters())
    assert {"cifar_resnet18": 11173962, "cifar_resnet34": 21282122}.get(name, count) == count


def test_every_model_of_the_table_knows_its_layers():
    for name in MODELS:
        assert len(sisom.check_layers(build_model(name, 3, seed=0), "auto")) == 4


def test_weights_round_trip():
    one, two = build_model("resnet10_w16", 4, seed=0), build_model("resnet10_w16", 4, seed=1)
    one(torch.randn(4, 3, 8, 8))  # moves the running statistics
    load_weights(two, save_weights(one))
    assert all(torch.equal(v, two.state_dict()[k]) for k, v in one.state_dict().items())


@pytest.mark.parametrize("name", ["resnet10_w16", "vit_b_16"])
def test_a_head_grows_behind_the_classes_that_it_knows(name):
    one, two = build_model(name, 4, seed=0), build_model(name, 6, seed=1)
    fresh = {k: v.clone() for k, v in two.state_dict().items()}
    grow_head(two, save_weights(one))
    heads = 0
    for key, value in two.state_dict().items():
        before = one.state_dict()[key]
        if value.shape == before.shape:
            assert torch.equal(value, before)
        else:
            heads += 1
            assert torch.equal(value[:4], before)
            assert torch.equal(value[4:], fresh[key][4:])
    assert heads == 2  # weight and bias
    images = torch.randn(2, 3, 224, 224) if name == "vit_b_16" else torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        assert torch.equal(two.eval()(images)[:, :4], one.eval()(images)) or torch.allclose(
            two(images)[:, :4], one(images), atol=1e-5
        )


def test_a_head_that_is_as_large_or_too_large_or_of_another_network():
    same = build_model("resnet10_w16", 4, seed=1)
    grow_head(same, save_weights(build_model("resnet10_w16", 4, seed=0)))
    assert torch.equal(same.fc.weight, build_model("resnet10_w16", 4, seed=0).fc.weight)
    for other in (build_model("resnet10_w16", 5, seed=0), build_model("cifar_resnet34", 3, seed=0)):
        with pytest.raises(errors.WeightsError, match="another network"):
            grow_head(same, save_weights(other))
    with pytest.raises(errors.WeightsError, match="safetensors"):
        grow_head(same, b"nonsense")


def test_weights_that_do_not_fit():
    model = build_model("resnet10_w16", 4, seed=0)
    with pytest.raises(errors.WeightsError, match="another network"):
        load_weights(model, save_weights(build_model("resnet10_w16", 5, seed=0)))
    with pytest.raises(errors.WeightsError, match="safetensors"):
        load_weights(model, b"nonsense")
    with pytest.raises(errors.UnknownName, match="'cifar_resnet18'"):
        build_model("cifar_resnet19", 4, seed=0)
