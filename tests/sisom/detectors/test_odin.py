"""ODIN: moved pixels against pytorch-ood, and end to end."""

import copy

import pytest
import torch

from sisom import auto_layers, build_model, errors, extract
from sisom.detectors.odin import OdinDetector


@pytest.fixture(scope="module")
def net():
    return build_model("resnet10_w16", 3, seed=0).eval()


def test_odin_moves_pixels_as_pytorch_ood_does(net):
    preprocessing = pytest.importorskip("pytorch_ood.detector.odin").odin_preprocessing
    net = copy.deepcopy(net).double()  # whose ReLUs open alike in both
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    std = [0.2, 0.25, 0.3]
    expected = preprocessing(net, images, eps=0.0014, temperature=1000.0, norm_std=std)
    moved = OdinDetector(std=tuple(std)).perturb(net, images)
    # Gradients that vanish next to rounding may change their sign; nothing else may differ.
    assert float((moved - expected).abs().gt(1e-6).double().mean()) < 0.01


def test_odin_images_do_not_depend_on_their_company(net):
    images = torch.randn(34, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    detector = OdinDetector(temperature=10.0)
    whole = detector.perturb(net, images)
    assert torch.equal(torch.cat([detector.perturb(net, part) for part in images.split(17)]), whole)
    assert not net.training and all(parameter.requires_grad for parameter in net.parameters())
    with torch.inference_mode():
        assert torch.equal(detector.perturb(net, images[:3]), whole[:3])
    assert detector.perturb(net, images[:0]).shape == (0, 3, 6, 6)
    assert torch.equal(OdinDetector(noise=0.0).perturb(net, images), images)


def test_odin_end_to_end(net):
    """A step towards the predicted class makes the net surer of it."""
    images = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    detector = OdinDetector(temperature=10.0, noise=0.01)
    layers = auto_layers(net)
    before, after = (extract(net, x, layers) for x in (images, detector.perturb(net, images)))
    assert bool((detector.score((), after) < detector.score((), before)).all())
    with pytest.raises(errors.ShapeMismatch):
        OdinDetector(std=(1.0, 1.0)).perturb(net, images)
