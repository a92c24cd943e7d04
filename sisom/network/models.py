"""Networks by name: CIFAR-style residual nets and torchvision's, untrained."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from sisom.errors import UnknownName, WeightsError, nearest_name
from sisom.network.names import RESIDUAL, TORCHVISION

__all__ = ["MODELS", "CifarResNet", "build_model", "grow_head", "load_weights", "save_weights"]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    The output is taken after the last ReLU, so it is never negative.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                OrderedDict(
                    conv=nn.Conv2d(inputs, outputs, 1, stride, bias=False), bn=nn.BatchNorm2d(outputs)
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, H, W) to (n, outputs, H/stride, W/stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + self.shortcut(x))  # type: ignore[no-any-return]


class CifarResNet(nn.Module):
    """A residual net for small images.

    3x3 stem without pooling, stages of blocks, average pooling, one linear layer.
    """

    def __init__(self, blocks: Sequence[int], width: int, *, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        for i, depth in enumerate(blocks):
            stride = 1 if i == 0 else 2
            stage = [ResidualBlock(widths[i], widths[i + 1], stride)]
            stage += [ResidualBlock(widths[i + 1], widths[i + 1], 1) for _ in range(depth - 1)]
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(widths[len(blocks)], num_classes)
        self._stages = tuple(f"layer{i + 1}" for i in range(len(blocks)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, 3, H, W) to (n, num_classes)."""
        x = self.relu(self.bn1(self.conv1(images)))
        for stage in self._stages:
            x = self.get_submodule(stage)(x)
        return self.fc(self.dropout(self.avgpool(x).flatten(1)))  # type: ignore[no-any-return]


def _torchvision(name: str, *, num_classes: int) -> nn.Module:
    import torchvision  # on use: importing it costs every worker process more than a second

    net: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
    return net


Builder = Callable[..., nn.Module]

# name -> builder taking num_classes
MODELS: dict[str, Builder] = {
    **{name: partial(CifarResNet, blocks, width) for name, (blocks, width) in RESIDUAL.items()},
    **{name: partial(_torchvision, name) for name in TORCHVISION},
}


def build_model(name: str, num_classes: int, *, seed: int) -> nn.Module:
    """Build an untrained network of the table `MODELS`.

    It takes float (n, 3, H, W) images; equal seeds mean equal weights.

    The global random state is left as it was. Raises `UnknownName` with the nearest name.
    """
    if name not in MODELS:
        near = nearest_name(name, list(MODELS))
        raise UnknownName(f"unknown model {name!r}; the nearest is {near!r}", name, near)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[name](num_classes=num_classes)


def save_weights(model: nn.Module) -> bytes:
    """Write all parameters and buffers as a safetensors file."""
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    return save_tensors(state)


def load_weights(model: nn.Module, data: bytes) -> nn.Module:
    """Load the bytes of `save_weights` into `model` and return it.

    Every name and shape must fit.

    Raises `WeightsError` when the bytes are no safetensors file or are of another network.
    """
    state = _tensors(data)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsError(f"weights of another network: {error}") from error
    return model


def grow_head(model: nn.Module, data: bytes) -> nn.Module:
    """Load weights of the same network with fewer classes, or as many.

    Returns `model`.

    The head's rows of the classes that the weights know are kept; those behind them stay as they are. Raises
    `WeightsError` when anything else than the number of classes differs, or the weights know more of them.
    """
    state, own = _tensors(data), model.state_dict()
    heads = {
        name: tensor
        for name, tensor in state.items()
        if name in own and tensor.shape[1:] == own[name].shape[1:] and tensor.shape != own[name].shape
    }
    if len({(len(tensor), len(own[name])) for name, tensor in heads.items()}) == 1:  # one head, one growth
        grown = {n: torch.cat([tensor, own[n][len(tensor) :].cpu()]) for n, tensor in heads.items()}
        state |= {name: tensor for name, tensor in grown.items() if tensor.shape == own[name].shape}
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsError(f"weights of another network: {error}") from error
    return model


def _tensors(data: bytes) -> dict[str, Tensor]:
    try:
        return load_tensors(data)
    except (SafetensorError, ValueError) as error:
        raise WeightsError(f"not a safetensors file: {error}") from error
