"""Layers to read: given by name, or by a rule.

Names are those of `model.named_modules()`. The rule of section 3.1 takes the vector that enters the classifier, and the
outputs of the three stages before it.
"""

from collections.abc import Sequence

from torch import nn

from sisom.errors import LayerError, nearest_name
from sisom.network.models import CifarResNet

__all__ = ["auto_layers", "check_layers", "is_channels_last", "unwrap"]


def unwrap(model: nn.Module) -> nn.Module:
    """Return the plain network inside a `torch.compile` wrapper.

    It shares the wrapper's weights; taps need the real modules.
    """
    inner = getattr(model, "_orig_mod", model)
    return inner if isinstance(inner, nn.Module) else model


def check_layers(model: nn.Module, layers: Sequence[str] | str) -> tuple[str, ...]:
    """Check the layers to read, and return them in order.

    `"auto"` stands for `auto_layers(model)`.

    Raises `LayerError` naming the first unknown or repeated layer and, if unknown, the nearest real one.
    """
    if isinstance(layers, str):
        if layers == "auto":
            return auto_layers(model)
        raise LayerError(f'layers must be a sequence of names or "auto", got {layers!r}', layers)
    known = [name for name, _ in unwrap(model).named_modules() if name]
    for i, layer in enumerate(layers):
        if layer not in known:
            near = nearest_name(layer, known)
            raise LayerError(f"the model has no layer {layer!r}; the nearest is {near!r}", layer, near)
        if layer in layers[:i]:
            raise LayerError(f"layer {layer!r} is named twice", layer)
    if not layers:
        raise LayerError("at least one layer is needed")
    return tuple(layers)


def auto_layers(model: nn.Module) -> tuple[str, ...]:
    """Choose the layers by the rule above, for the nets of `MODELS`.

    Raises:
        LayerError: for any other net.
    """
    net = unwrap(model)
    if isinstance(net, CifarResNet) or _is_a(net, "resnet.ResNet"):
        return ("layer1", "layer2", "layer3", "avgpool")
    if _is_a(net, "convnext.ConvNeXt"):
        return ("features.1", "features.3", "features.5", "classifier.0")
    if _is_a(net, "swin_transformer.SwinTransformer"):
        return ("features.1", "features.3", "features.5", "avgpool")
    if _is_a(net, "vision_transformer.VisionTransformer"):
        blocks = [name for name, _ in net.get_submodule("encoder.layers").named_children()][-3:]
        return (*(f"encoder.layers.{block}.ln_2" for block in blocks), "encoder.ln")
    raise LayerError(
        f"no automatic layers for {type(net).__name__}; name them, as model.named_modules() does"
    )


def is_channels_last(module: nn.Module) -> bool:
    """Tell whether a four-dimensional output is (n, H, W, C).

    True of Swin's blocks and of plain norms.
    """
    if isinstance(module, nn.Sequential) and len(module):
        return is_channels_last(module[-1])
    if _is_a(module, "ops.misc.Permute"):
        return list(getattr(module, "dims", ())) == [0, 2, 3, 1]
    norm = type(module) is nn.LayerNorm  # a subclass such as LayerNorm2d may move the channels back
    swin = _is_a(module, "swin_transformer.SwinTransformerBlock", "swin_transformer.PatchMerging")
    return norm or swin or isinstance(module, nn.Linear)


def _is_a(module: nn.Module, *names: str) -> bool:
    """Tell by name whether a module is of a torchvision class.

    Importing torchvision to ask would cost every process that reads features more than a second.
    """
    kinds = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__]
    return any(
        kind in (f"torchvision.{name}", f"torchvision.models.{name}") for kind in kinds for name in names
    )
