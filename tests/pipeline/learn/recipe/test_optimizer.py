"""Optimizers, their rates by layer, and a frozen backbone."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
import torchvision

from pipeline.config.sections import Model
from pipeline.config.training import Train
from pipeline.errors import ConfigError
from pipeline.learn.recipe.optimizer import Freezing, blocks_of, head_of, optimizer_for, set_rate
from pipeline.learn.recipe.values import Recipe
from pipeline.model.weights import new_network

MODEL = Model(name="resnet10_w16", image_size=8)
RECIPE = Recipe.of_round(Train(lr=0.01))


def test_blocks_go_from_the_images_to_the_head() -> None:
    net = new_network(MODEL, 3, seed=0)
    blocks = blocks_of(net)
    assert [block[0] for block in blocks] == [
        "conv1.weight", "layer1.0.conv1.weight", "layer2.0.conv1.weight", "layer3.0.conv1.weight",
        "layer4.0.conv1.weight", "fc.weight",
    ]  # fmt: skip
    assert blocks[0] == ["conv1.weight", "bn1.weight", "bn1.bias"]
    assert blocks[-1] == ["fc.weight", "fc.bias"]
    assert sorted(itertools.chain(*blocks)) == sorted(name for name, _ in net.named_parameters())


def test_a_transformer_has_a_block_a_layer_and_its_norm_belongs_to_the_last() -> None:
    net = torch.nn.ModuleDict(
        {
            "patches": torch.nn.Linear(4, 4),
            "blocks": torch.nn.ModuleList([torch.nn.Linear(4, 4) for _ in range(3)]),
            "norm": torch.nn.LayerNorm(4),
            "head": torch.nn.Linear(4, 2),
        }
    )
    assert head_of(net)[0] == "head"
    assert [block[0] for block in blocks_of(net)] == [
        "patches.weight", "blocks.0.weight", "blocks.1.weight", "blocks.2.weight", "head.weight",
    ]  # fmt: skip
    assert blocks_of(net)[3][-1] == "norm.bias"


def test_torchvisions_transformer_has_a_block_a_layer_too() -> None:
    with torch.device("meta"):
        net = torchvision.models.vit_b_16(num_classes=3)
    blocks = blocks_of(net)
    assert sum(block[0].startswith("encoder.layers.encoder_layer_") for block in blocks) == 12
    assert blocks[-1] == ["heads.head.weight", "heads.head.bias"]


def test_a_network_without_a_linear_classifier_is_refused() -> None:
    with pytest.raises(ConfigError, match="need a network with a linear classifier"):
        blocks_of(torch.nn.Conv2d(3, 4, 1))


def test_layer_decay_by_hand() -> None:
    net = new_network(MODEL, 3, seed=0)
    optimizer = optimizer_for(net, replace(RECIPE, layer_decay=0.5))
    set_rate(optimizer, 0.32)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
        [0.01, 0.02, 0.04, 0.08, 0.16, 0.32]
    )
    (group,) = optimizer_for(net, RECIPE).param_groups  # as checkpoints of earlier releases have it
    assert len(group["params"]) == len(list(net.parameters()))


def test_adamw_by_hand() -> None:
    """Its first step moves a weight by lr against the sign of the gradient, after the decay by lr * decay."""
    net = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        net[0].weight.fill_(2.0)
    optimizer = optimizer_for(net, replace(RECIPE, optimizer="adamw", weight_decay=0.1))
    set_rate(optimizer, 0.01)
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)
    net(torch.full((1, 1), 5.0)).sum().backward()
    optimizer.step()
    assert net[0].weight.item() == pytest.approx(2.0 * (1 - 0.01 * 0.1) - 0.01, rel=1e-5)


def test_a_frozen_backbone_keeps_weights_and_running_means() -> None:
    net = new_network(MODEL, 3, seed=0).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer, frozen = optimizer_for(net, RECIPE), Freezing(net)
    frozen.set_modes()
    net(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    frozen.drop_gradients()
    optimizer.step()
    moved = [name for name, value in net.state_dict().items() if not torch.equal(value, before[name])]
    assert moved == ["fc.weight", "fc.bias"]
