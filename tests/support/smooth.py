"""Networks without gates: rounding moves their features by rounding, on every processor."""

from torch import nn


def smooth(model: nn.Module) -> nn.Module:
    """The same network with SiLU in place of every ReLU, in place where the ReLU worked in place.

    A ReLU whose input lies next to zero opens on one processor and stays shut on another, and then whole
    gradients behind it differ by percents. Equalities that are to hold in float32 are shown on such networks;
    those of real ReLUs in float64, where no input lies that near.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.SiLU(inplace=child.inplace))
    return model
