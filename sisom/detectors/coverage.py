"""NAC-UE (Liu et al. 2024): whether a sample's neurons are in states that the fitted rows cover."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.bank.enhance import Slopes, columns_of, resolve_slopes
from sisom.checks import check_features
from sisom.detectors.base import check_fit, strangeness
from sisom.errors import InputError, ShapeMismatch
from sisom.rowwise import rowwise
from sisom.types import Features

__all__ = ["Coverage", "NacDetector"]


@dataclass(frozen=True, eq=False)
class Coverage:
    """For each layer its slope and, for each of its neurons, how well each bin of [0, 1] is covered: 0 to 1."""

    layers: tuple[tuple[str, float, Tensor], ...]


@dataclass(frozen=True)
class NacDetector:
    """One less the coverage of the neurons' states, `sigmoid(slope * saliency)`: mean over neurons, then layers.

    slopes   as in `fit_bank`; the published ones are the presets "nac-cifar10", "nac-cifar100", "nac-imagenet"
    bins     of a neuron's states, a number or one for each layer
    enough   rows in a bin that cover it fully, a number or one for each layer
    """

    slopes: Slopes = 1.0
    bins: int | Mapping[str, int] = 50
    enough: int | Mapping[str, int] = 50

    needs = frozenset[str]()

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> Coverage:
        """The coverage by the fitted rows; published with 1,000 rows, spread evenly over the classes."""
        check_fit(features, labels)
        layers = []
        columns = columns_of(features.layer_dims)
        for name, slope in resolve_slopes(self.slopes, features.layers):
            bins, enough = _of(self.bins, name, "bins"), _of(self.enough, name, "enough")
            place = _bin(features.saliency[:, columns[name]], slope, bins)
            neuron = torch.arange(place.shape[1], device=place.device)
            counts = torch.bincount((place + bins * neuron).flatten(), minlength=bins * len(neuron))
            layers.append((name, slope, (counts.double() / enough).clamp(max=1).view(len(neuron), bins)))
        return Coverage(tuple(layers))

    def score(self, state: Coverage, features: Features) -> Float[Tensor, " n"]:
        """One score a row; see `Detector`. Features may hold more layers than were fitted."""
        check_features(features)
        columns = columns_of(features.layer_dims)
        covered = torch.zeros(len(features), dtype=torch.float64, device=features.saliency.device)
        for name, slope, table in state.layers:
            if name not in columns or columns[name].stop - columns[name].start != len(table):
                raise ShapeMismatch(f"the features have no layer {name!r} of {len(table)} neurons")
            covered += rowwise(
                lambda part, slope=slope, table=table: (
                    table.gather(1, _bin(part, slope, table.shape[1]).T).T.contiguous().mean(dim=1)
                ),
                features.saliency[:, columns[name]],
            )
        return strangeness(1 - covered / len(state.layers))


def _bin(saliency: Tensor, slope: float, bins: int) -> Tensor:
    """(n, neurons) of the bins of equal width that the states fall into; the last one holds one."""
    state = torch.sigmoid(slope * saliency.double())
    return (state * bins).long().clamp(max=bins - 1)


def _of(value: int | Mapping[str, int], layer: str, what: str) -> int:
    number = value if isinstance(value, int) else value.get(layer, 0)
    if number < 1:
        raise InputError(f"{what} must be at least 1 for layer {layer!r}, got {value}")
    return number
