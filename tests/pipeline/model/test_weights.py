"""Training that starts from given weights."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save

from pipeline.config.sections import Model
from pipeline.errors import ConfigError
from pipeline.model.weights import Start, new_network
from sisom.errors import WeightsError
from sisom.network.models import save_weights

pytestmark = pytest.mark.usefixtures("one_thread")

MODEL = Model(name="resnet10_w16", image_size=8)


def test_a_start_from_a_backbone_leaves_the_classifier_fresh() -> None:
    state = new_network(MODEL, 7, seed=1).state_dict()
    from safetensors.torch import save

    weights = save({f"backbone.{name}": value.clone() for name, value in state.items()})
    net = new_network(MODEL, 2, seed=3, start=Start(weights, "backbone"))
    fresh = new_network(MODEL, 2, seed=3)
    assert torch.equal(net.state_dict()["conv1.weight"], state["conv1.weight"])
    assert torch.equal(net.state_dict()["fc.weight"], fresh.state_dict()["fc.weight"])
    with pytest.raises(ConfigError, match=r"conv1\.weight is missing"):
        new_network(MODEL, 2, seed=3, start=Start(save({"else": torch.zeros(1)}), "backbone"))
    with pytest.raises(ConfigError, match="not a safetensors file"):
        new_network(MODEL, 2, seed=3, start=Start(b"pickle", "backbone"))
    with pytest.raises(ConfigError, match="no dropout"):
        new_network(Model(name="resnet18"), 2, seed=0, dropout=0.1)


MODEL = Model(name="resnet10_w16", image_size=8)


def test_an_earlier_network_keeps_its_head_which_grows() -> None:
    before = new_network(MODEL, 2, seed=1)
    net = new_network(MODEL, 4, seed=2, start=Start(save_weights(before), "network"))
    fresh = new_network(MODEL, 4, seed=2)
    head, own = before.state_dict()["fc.weight"], net.state_dict()["fc.weight"]
    assert torch.equal(own[:2], head)
    assert torch.equal(own[2:], fresh.state_dict()["fc.weight"][2:])
    assert torch.equal(net.state_dict()["conv1.weight"], before.state_dict()["conv1.weight"])
    with pytest.raises(WeightsError, match="another network"):
        new_network(MODEL, 2, seed=2, start=Start(save_weights(net), "network"))


def test_a_backbone_leaves_the_whole_head_fresh() -> None:
    state = new_network(MODEL, 4, seed=1).state_dict()
    weights = save({f"module.{name}": value.clone() for name, value in state.items()})
    net, fresh = (
        new_network(MODEL, 4, seed=2, start=Start(weights, "backbone")),
        new_network(MODEL, 4, seed=2),
    )
    for name, value in net.state_dict().items():
        assert torch.equal(value, (fresh.state_dict() if name.startswith("fc.") else state)[name])
    short = save({name: value.clone() for name, value in state.items() if name != "bn1.weight"})
    with pytest.raises(ConfigError, match=r"bn1\.weight is missing"):
        new_network(MODEL, 4, seed=2, start=Start(short, "backbone"))


def test_dropout_is_of_the_network() -> None:
    net = new_network(MODEL, 2, seed=0, dropout=0.25)
    assert isinstance(net.dropout, torch.nn.Dropout)
    assert net.dropout.p == 0.25
    with pytest.raises(ConfigError, match="no dropout"):
        new_network(Model(name="resnet18"), 2, seed=0, dropout=0.25)
