"""The search for one slope a layer that minimises the leave-one-out ratio (section 8), in one exact sweep.

Squared distances add over the layers, so each layer's distances are computed once for each of its candidates,
and a combination only adds them up (section 10.4). The sweep is in float32 products; the best combinations,
all within a margin that covers its rounding, are then measured exactly, and the smallest of those wins.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from sisom.bank import average_ratio
from sisom.checks import check_features, check_labels
from sisom.enhance import columns_of, enhance
from sisom.errors import DegenerateSlopes, SlopeError, TooFewLabels, nearest_name
from sisom.types import Features

__all__ = ["SlopeSweep", "reduced_slopes", "search_slopes", "sweep_slopes"]

_MARGIN = 5e-5  # relative; the sweep's means were within 3e-8 of the exact ones where measured
_BUDGET_BYTES = 256 << 20
_CACHED_ROWS = 16  # rows whose sums stay in the cache between the addition and the minimum
_SATURATED = 0.5 - 1e-6
_MOST_EXACT = 8


@dataclass(frozen=True)
class SlopeSweep:
    """What a sweep found.

    slopes    the winning combination
    r_avg     its leave-one-out ratio, measured exactly
    table     the sweep's ratio of every usable combination, in the order of `layers`
    refused   why the other combinations are not usable
    """

    slopes: dict[str, float]
    r_avg: float
    layers: tuple[str, ...]
    table: dict[tuple[float, ...], float]
    refused: dict[tuple[float, ...], str]


def search_slopes(
    features: Features, labels: Int[Tensor, " n"], candidates: Mapping[str, Sequence[float]]
) -> dict[str, float]:
    """The combination of candidate slopes with the smallest leave-one-out ratio; see `sweep_slopes`."""
    return sweep_slopes(features, labels, candidates).slopes


def sweep_slopes(
    features: Features, labels: Int[Tensor, " n"], candidates: Mapping[str, Sequence[float]]
) -> SlopeSweep:
    """The leave-one-out ratio of every combination of candidate slopes, and the best combination.

    `candidates` names one or more slopes for each layer of the features. Ties go to the combination that
    saturates less, then to the smaller slopes. A combination in which every layer is constant or saturated is
    refused: its distances are zero or count signs. Raises `SlopeError` for candidates that do not fit the
    layers, `DegenerateSlopes` when all are refused, and what `average_ratio` raises.
    """
    labels = labels.to(features.saliency.device, torch.int64)
    check_labels(labels, len(features), features.logits.shape[1])
    check_features(features)
    names = features.layers
    grid = _grid(names, candidates)
    order = labels.argsort(stable=True)
    labels = labels[order]
    columns = columns_of(features.layer_dims)
    layers = [
        [_Layer.of(features.saliency[order][:, columns[name]], name, slope) for slope in grid[name]]
        for name in names
    ]
    table: dict[tuple[float, ...], float] = {}
    refused: dict[tuple[float, ...], str] = {}
    means = _sweep(layers, labels)
    for places in itertools.product(*(range(len(grid[name])) for name in names)):
        combination = tuple(grid[name][i] for name, i in zip(names, places, strict=True))
        parts = [layers[j][i] for j, i in enumerate(places)]
        alive = [part for part in parts if not part.constant]
        if not alive:
            refused[combination] = "all distances are zero"
        elif all(part.saturated for part in alive):
            refused[combination] = "every layer is saturated: only signs are left"
        elif math.isnan(means[places]):
            refused[combination] = "no leave-one-out ratio exists"
        else:
            table[combination] = means[places]
    if not table:
        reasons = tuple(sorted(set(refused.values())))
        if reasons == ("no leave-one-out ratio exists",):
            raise TooFewLabels(
                "no leave-one-out ratio exists: it needs two classes, one of them with two points"
            )
        raise DegenerateSlopes(f"no combination of slopes is usable: {'; '.join(reasons)}", reasons)
    saturation = {(j, layer.slope): layer.saturation for j, row in enumerate(layers) for layer in row}
    best = min(table.values())
    close = sorted((value, c) for c, value in table.items() if value <= best * (1 + _MARGIN))
    exact = []
    for _, combination in close[:_MOST_EXACT]:
        value = average_ratio(features.select(order), labels, dict(zip(names, combination, strict=True)))
        full = sum(saturation[j, slope] for j, slope in enumerate(combination))
        exact.append((value, full, combination))
    r_avg, _, winner = min(exact)
    return SlopeSweep(dict(zip(names, winner, strict=True)), r_avg, names, table, refused)


def reduced_slopes(
    features: Features, level: float, log_ratios: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Slopes from one common level and a log-ratio for each layer, both natural logarithms (section 8).

    Far from saturation a common factor of all slopes cancels in the ratio, so a search needs the layers'
    ratios and one level only: for four layers, three log-ratios (a layer left out has zero) and the level.
    At level 0 and log-ratio 0 the median |slope * saliency| of the layer is one.
    """
    ratios = dict(log_ratios or {})
    strange = [name for name in ratios if name not in features.layers]
    if strange:
        near = nearest_name(strange[0], list(features.layers))
        raise SlopeError(f"log-ratio given for unknown layer {strange[0]!r}; the nearest layer is {near!r}")
    slopes = {}
    for name, part in columns_of(features.layer_dims).items():
        typical = float(features.saliency[:, part].abs().median())
        slopes[name] = math.exp(level + ratios.get(name, 0.0)) / max(typical, 1e-30)
    return slopes


@dataclass(frozen=True, eq=False)
class _Layer:
    """One layer's enhanced, centered features for one candidate slope, in class order."""

    slope: float
    points: Tensor
    norms: Tensor
    saturation: float
    constant: bool

    @property
    def saturated(self) -> bool:
        return self.saturation > 0.99

    @classmethod
    def of(cls, saliency: Tensor, name: str, slope: float) -> _Layer:
        points = enhance(saliency, ((name, saliency.shape[1]),), ((name, slope),))
        saturation = float((points.abs() >= _SATURATED).double().mean())
        constant = bool((points == points[0]).all())
        points = points - points.double().mean(dim=0).float()  # smaller norms, smaller rounding
        return cls(slope, points, points.double().square().sum(dim=1).float(), saturation, constant)


def _grid(names: tuple[str, ...], candidates: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    strange = [name for name in candidates if name not in names]
    if strange:
        near = nearest_name(strange[0], list(names))
        raise SlopeError(f"candidates given for unknown layer {strange[0]!r}; the nearest layer is {near!r}")
    empty = [name for name in names if not candidates.get(name)]
    if empty:
        raise SlopeError(f"layer {empty[0]!r} needs at least one candidate slope")
    grid = {name: sorted({float(slope) for slope in candidates[name]}) for name in names}
    for name, slopes in grid.items():
        if not all(math.isfinite(slope) and slope >= 0 for slope in slopes):
            raise SlopeError(f"the slopes of layer {name!r} must be finite and not negative, got {slopes}")
    return grid


def _sweep(layers: list[list[_Layer]], labels: Tensor) -> dict[tuple[int, ...], float]:
    """Mean leave-one-out ratio of every combination, by the candidates' places; NaN where there is none."""
    n, half = len(labels), (len(layers) + 1) // 2
    firsts = list(itertools.product(*(range(len(layer)) for layer in layers[:half])))
    lasts = list(itertools.product(*(range(len(layer)) for layer in layers[half:])))
    total = torch.zeros((len(firsts), len(lasts)), dtype=torch.float64, device=labels.device)
    count = torch.zeros_like(total)
    matrices = sum(map(len, layers)) + len(firsts) + len(lasts)
    size = max(8, _BUDGET_BYTES // (4 * n * matrices))
    _, lengths = torch.unique_consecutive(labels, return_counts=True)
    if len(lengths) > 1:
        for length, stop in zip(lengths.tolist(), lengths.cumsum(0).tolist(), strict=True):
            for begin in range(stop - length, stop, size):
                rows = slice(begin, min(begin + size, stop))
                left = _partial_sums(layers[:half], firsts, rows)
                right = _partial_sums(layers[half:], lasts, rows)
                ratio = _tile_ratios(left, right, slice(stop - length, stop))
                good = torch.isfinite(ratio)
                total += torch.where(good, ratio, 0.0).sum(dim=2)
                count += good.sum(dim=2)
    means = total / count  # 0 / 0 is NaN: no value
    return {a + b: float(means[i, j]) for i, a in enumerate(firsts) for j, b in enumerate(lasts)}


def _partial_sums(layers: list[list[_Layer]], combinations: list[tuple[int, ...]], rows: slice) -> Tensor:
    """(combinations, rows, n): squared distances summed over these layers; from a row to itself, infinite."""
    single = [[_squared(layer, rows) for layer in row] for row in layers]
    n = len(layers[0][0].points) if layers else 1
    if not layers:
        return torch.zeros((1, rows.stop - rows.start, 1))
    found = single[0][0].new_empty((len(combinations), rows.stop - rows.start, n))
    for i, places in enumerate(combinations):
        parts = [single[j][place] for j, place in enumerate(places)]
        if len(parts) == 1:
            found[i] = parts[0]
        else:
            torch.add(parts[0], parts[1], out=found[i])
            for part in parts[2:]:
                found[i] += part
    return found


def _squared(layer: _Layer, rows: slice) -> Tensor:
    queries = layer.points[rows]
    value = torch.addmm(layer.norms, queries, layer.points.T, alpha=-2)
    value += layer.norms[rows, None]
    place = torch.arange(len(queries), device=value.device)
    value[place, place + rows.start] = torch.inf
    return value


def _tile_ratios(left: Tensor, right: Tensor, own: slice) -> Tensor:
    """(firsts, lasts, rows): ratios of rows of one class, whose points lie at `own`; not finite for none."""
    # The class's own columns apart, so that each side is one addition and one minimum without a mask.
    left_own = left[:, :, own].contiguous()
    right_own = right[:, :, own].contiguous() if right.shape[2] > 1 else right
    left[:, :, own] = torch.inf
    shape = (len(left), len(right), left.shape[1])
    inner, outer = left.new_empty(shape), left.new_empty(shape)
    for begin in range(0, left.shape[1], _CACHED_ROWS):
        part = slice(begin, begin + _CACHED_ROWS)
        for i in range(len(left)):
            inner[i, :, part] = (left_own[i, part] + right_own[:, part]).amin(dim=2)
            outer[i, :, part] = (left[i, part] + right[:, part]).amin(dim=2)
    # Rounding may leave a tiny negative; both zero counts as one, zero outside alone as no value.
    inner, outer = inner.clamp(min=0).double(), outer.clamp(min=0).double()
    return torch.where((inner == 0) & (outer == 0), 1.0, (inner / outer).sqrt())
