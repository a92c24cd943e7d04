"""Names of layers, and layers that cannot be read."""

import pytest
import torch
from torch import nn

from sisom import LayerError, build_model, check_layers, extract


def images(n=3, size=16, seed=0):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_unknown_layer_names_the_nearest():
    model = build_model("resnet10_w16", 6, seed=0)
    with pytest.raises(LayerError, match=r"'layr3'.*'layer3'") as caught:
        extract(model, images(), ["layer1", "layr3"])
    assert (caught.value.layer, caught.value.nearest) == ("layr3", "layer3")
    with pytest.raises(LayerError, match="twice"):
        check_layers(model, ["layer1", "layer1"])
    with pytest.raises(LayerError, match="at least one"):
        check_layers(model, [])
    with pytest.raises(LayerError, match="name them"):
        check_layers(nn.Sequential(nn.Linear(2, 2)), "auto")


def test_layers_that_cannot_be_read():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Linear(2, 2)
            self.aside = nn.AdaptiveAvgPool2d(1)
            self.flat = nn.Flatten()
            self.fc = nn.Linear(12, 2)

        def forward(self, x):
            self.aside(x)
            return self.fc(self.flat(x))

    model, batch = Odd(), torch.randn(2, 3, 2, 2)
    with pytest.raises(LayerError, match="does not run"):
        extract(model, batch, ["unused"])
    with pytest.raises(LayerError, match="do not depend"):
        extract(model, batch, ["aside"])
