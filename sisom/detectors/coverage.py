"""NAC-UE (Liu et al. 2024): coverage of neuron states."""

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
    """Slope and coverage of each layer.

    The third element is (neurons, bins): how well each bin of [0, 1] is covered, 0 to 1.
    """

    layers: tuple[tuple[str, float, Tensor], ...]


@dataclass(frozen=True)
class NacDetector:
    """Uncovered share of the neurons' states, `sigmoid(slope * saliency)`.

    The score is the mean over neurons, then over layers.

    Args:
        slopes: as `fit_bank` takes them; the published ones are the presets "nac-cifar10", "nac-cifar100" and
            "nac-imagenet".
        bins: the number of bins of a neuron's states, one number or one for each layer.
        enough: the rows that cover a bin fully, one number or one for each layer.
    """

    slopes: Slopes = 1.0
    bins: int | Mapping[str, int] = 50
    enough: int | Mapping[str, int] = 50

    needs = frozenset[str]()

    def fit(self, features: Features, labels: Int[Tensor, " n"]) -> Coverage:
        """Measure the coverage by the fitted rows.

        Published with 1,000 rows, spread evenly over the classes.
        """
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
        """Score each row; see `Detector`.

        Features may hold more layers than were fitted.
        """
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
    """Find the bins of equal width that states fall into, (n, neurons).

    The last bin holds the state one.
    """
    state = torch.sigmoid(slope * saliency.double())
    return (state * bins).long().clamp(max=bins - 1)


def _of(value: int | Mapping[str, int], layer: str, what: str) -> int:
    number = value if isinstance(value, int) else value.get(layer, 0)
    if number < 1:
        raise InputError(f"{what} must be at least 1 for layer {layer!r}, got {value}")
    return number
