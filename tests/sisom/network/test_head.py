"""The classifier's last layer."""

import pytest
import torch

from sisom import Head, build_model, errors, extract


@pytest.fixture(scope="module")
def net():
    return build_model("resnet10_w16", 3, seed=0).eval()


def test_the_head_is_the_last_linear_layer(net):
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    found = extract(net, images)
    logits = Head.of(net).logits(found.penultimate.double())
    assert torch.allclose(logits.float(), found.logits, atol=1e-5)
    with pytest.raises(errors.LayerError):
        Head.of(torch.nn.Conv2d(3, 3, 1))
    with pytest.raises(errors.NonFinite):
        Head(torch.full((3, 2), torch.nan), torch.zeros(3))
