"""Published slopes by name."""

import pytest
import torch

from sisom import Features, errors, fit_bank
from sisom.bank.presets import PRESETS, sum_to_mean


def test_presets():
    assert PRESETS["cifar10"] == {"layer1": 0.001, "layer2": 0.001, "layer3": 1000.0, "avgpool": 100.0}
    assert PRESETS["nac-cifar10"]["layer1"] == pytest.approx(0.001 * 1024**2)
    assert PRESETS["nac-imagenet"]["layer3"] == pytest.approx(300 * 196**2)
    assert sum_to_mean({"a": 2.0}, {"a": 3}) == {"a": 18.0}
    saliency = torch.tensor([[0.0], [1.0], [5.0], [7.0]])
    fit = Features(saliency, (("avgpool", 1),), saliency, torch.zeros(4, 2))
    assert fit_bank(fit, torch.tensor([0, 0, 1, 1]), slopes="cifar10").slopes == (("avgpool", 100.0),)
    with pytest.raises(errors.UnknownName, match="cifar10"):
        fit_bank(fit, torch.tensor([0, 0, 1, 1]), slopes="cifar11")
    other = Features(saliency, (("stage", 1),), saliency, torch.zeros(4, 2))
    with pytest.raises(errors.SlopeError, match="'stage'"):
        fit_bank(other, torch.tensor([0, 0, 1, 1]), slopes="cifar10")
