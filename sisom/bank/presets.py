"""Published slopes by name (section 3.4), for the layers of residual nets, in terms of mean pooling.

The `nac-` presets were published for sum pooling. Sums over H*W positions are H*W times the means, for the
activation and for the gradient, so a mean-pooled slope is the summed one times (H*W)^2: exact, and huge. With
mean pooling and the plain presets the early layers contribute next to nothing, see `FeatureBank.pruned`.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sisom.errors import SlopeError, UnknownName, nearest_name

__all__ = ["PRESETS", "preset_slopes", "sum_to_mean"]

_CIFAR_POSITIONS = {"layer1": 32 * 32, "layer2": 16 * 16, "layer3": 8 * 8, "avgpool": 1}
_IMAGENET_POSITIONS = {"layer1": 56 * 56, "layer2": 28 * 28, "layer3": 14 * 14, "avgpool": 1}


def sum_to_mean(slopes: Mapping[str, float], positions: Mapping[str, int]) -> dict[str, float]:
    """Slopes for sum pooling over the given numbers of positions, as slopes for mean pooling."""
    return {name: slope * positions[name] ** 2 for name, slope in slopes.items()}


def _layers(avgpool: float, layer3: float, layer2: float, layer1: float) -> dict[str, float]:
    return {"layer1": layer1, "layer2": layer2, "layer3": layer3, "avgpool": avgpool}


PRESETS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "cifar10": _layers(100.0, 1000.0, 0.001, 0.001),
        "cifar100": _layers(1.0, 0.1, 0.1, 0.1),
        "imagenet": _layers(3000.0, 300.0, 0.01, 1.0),
        "nac-cifar10": sum_to_mean(_layers(100.0, 1000.0, 0.001, 0.001), _CIFAR_POSITIONS),
        "nac-cifar100": sum_to_mean(_layers(50.0, 10.0, 1.0, 0.005), _CIFAR_POSITIONS),
        "nac-imagenet": sum_to_mean(_layers(3000.0, 300.0, 0.01, 1.0), _IMAGENET_POSITIONS),
    }
)


def preset_slopes(name: str, layers: Sequence[str]) -> dict[str, float]:
    """The preset's slopes for `layers`; raises `UnknownName`, or `SlopeError` for a layer it does not know."""
    if name not in PRESETS:
        near = nearest_name(name, list(PRESETS))
        raise UnknownName(f"unknown slope preset {name!r}; the nearest is {near!r}", name, near)
    strange = [layer for layer in layers if layer not in PRESETS[name]]
    if strange:
        raise SlopeError(f"preset {name!r} has no slope for layer {strange[0]!r}; give the slopes by layer")
    return {layer: PRESETS[name][layer] for layer in layers}
