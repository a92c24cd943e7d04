"""Names of the networks that `build_model` builds."""

from typing import Final

__all__ = ["RESIDUAL", "TORCHVISION"]

# Our small residual nets: blocks a stage, and the width of the first.
RESIDUAL: Final = {
    "resnet10_w16": ((1, 1, 1, 1), 16),
    "resnet18_w16": ((2, 2, 2, 2), 16),
    "cifar_resnet18": ((2, 2, 2, 2), 64),
    "cifar_resnet34": ((3, 4, 6, 3), 64),
}
TORCHVISION: Final = ("resnet18", "resnet34", "resnet50", "convnext_tiny", "vit_b_16", "swin_t")
