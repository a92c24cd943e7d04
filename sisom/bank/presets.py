"""Published slopes by name (section 3.4), for the layers of residual nets.

All are meant for mean pooling. The `nac-` presets were published for sum pooling. Sums over H*W positions are H*W times
the means, for the activation and for the gradient, so a mean-pooled slope is the summed one times (H*W)^2: exact, and
huge. With mean pooling and the plain presets the early layers contribute next to nothing, see `FeatureBank.pruned`.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sisom.errors import SlopeError, UnknownName, nearest_name

__all__ = ["PRESETS", "preset_slopes", "sum_to_mean"]

_CIFAR_POSITIONS = {"layer1": 32 * 32, "layer2": 16 * 16, "layer3": 8 * 8, "avgpool": 1}
_IMAGENET_POSITIONS = {"layer1": 56 * 56, "layer2": 28 * 28, "layer3": 14 * 14, "avgpool": 1}


def sum_to_mean(slopes: Mapping[str, float], positions: Mapping[str, int]) -> dict[str, float]:
    """Convert slopes for sum pooling to slopes for mean pooling.

    `positions` is the number of positions that each layer pools over.
    """
    return {name: slope * positions[name] ** 2 for name, slope in slopes.items()}


_CIFAR10 = {"layer1": 0.001, "layer2": 0.001, "layer3": 1000.0, "avgpool": 100.0}
_IMAGENET = {"layer1": 1.0, "layer2": 0.01, "layer3": 300.0, "avgpool": 3000.0}
_NAC_CIFAR100 = {"layer1": 0.005, "layer2": 1.0, "layer3": 10.0, "avgpool": 50.0}

PRESETS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "cifar10": _CIFAR10,
        "cifar100": {"layer1": 0.1, "layer2": 0.1, "layer3": 0.1, "avgpool": 1.0},
        "imagenet": _IMAGENET,
        "nac-cifar10": sum_to_mean(_CIFAR10, _CIFAR_POSITIONS),
        "nac-cifar100": sum_to_mean(_NAC_CIFAR100, _CIFAR_POSITIONS),
        "nac-imagenet": sum_to_mean(_IMAGENET, _IMAGENET_POSITIONS),
    }
)


def preset_slopes(name: str, layers: Sequence[str]) -> dict[str, float]:
    """Look up the preset's slopes for `layers`.

    Raises:
        UnknownName: for a preset that does not exist.
        SlopeError: for a layer that it does not know.
    """
    if name not in PRESETS:
        near = nearest_name(name, list(PRESETS))
        raise UnknownName(f"unknown slope preset {name!r}; the nearest is {near!r}", name, near)
    strange = [layer for layer in layers if layer not in PRESETS[name]]
    if strange:
        raise SlopeError(f"preset {name!r} has no slope for layer {strange[0]!r}; give the slopes by layer")
    return {layer: PRESETS[name][layer] for layer in layers}
