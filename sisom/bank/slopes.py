"""Search for the slopes that minimise the leave-one-out ratio (section 8).

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

from sisom.bank.enhance import columns_of, enhance
from sisom.bank.fit import average_ratio
from sisom.checks import check_features, check_labels
from sisom.errors import DegenerateSlopes, SlopeError, TooFewLabels, nearest_name
from sisom.types import Features

__all__ = ["SlopeSweep", "reduced_slopes", "search_slopes", "sweep_slopes"]

_MARGIN = 5e-5  # relative; the sweep's means were within 3e-8 of the exact ones where measured
_BUDGET_BYTES = 128 << 20
_CACHED_ROWS = 4  # rows times combinations whose sums stay in the cache until their minimum is taken
_CACHED_SUMS = 96
_FAR = 1e30  # finite, because it is multiplied by zero
_SATURATED = 0.5 - 1e-6
_MOST_EXACT = 8


@dataclass(frozen=True)
class SlopeSweep:
    """The result of a sweep.

    Args:
        slopes: the winning combination, by layer.
        r_avg: its leave-one-out ratio.
        layers: their names, in the order of the combinations.
        table: the sweep's ratio of every usable combination.
        refused: why the other combinations are not usable.
    """

    slopes: dict[str, float]
    r_avg: float
    layers: tuple[str, ...]
    table: dict[tuple[float, ...], float]
    refused: dict[tuple[float, ...], str]


def search_slopes(
    features: Features, labels: Int[Tensor, " n"], candidates: Mapping[str, Sequence[float]]
) -> dict[str, float]:
    """Find the candidate slopes with the smallest leave-one-out ratio; see `sweep_slopes`."""
    return sweep_slopes(features, labels, candidates).slopes


def sweep_slopes(
    features: Features, labels: Int[Tensor, " n"], candidates: Mapping[str, Sequence[float]]
) -> SlopeSweep:
    """Measure the leave-one-out ratio of every combination of candidate slopes.

    The ratio is that of `average_ratio` with its default spec.

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
    if len(close) == 1:
        value, winner = close[0]
        return SlopeSweep(dict(zip(names, winner, strict=True)), value, names, table, refused)
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
    """Compute slopes from a common level and log-ratios (section 8).

    Both are natural logarithms.

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
    """Enhanced, centered features of a layer for a candidate slope, class-sorted."""

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
    """Average the leave-one-out ratio of every combination.

    Returns the means by the candidates' places; NaN where there is no ratio.

    Adding up one candidate of each layer is a product with a matrix of zeros and ones, which costs one pass over
    the sums where additions would cost three.
    """
    n, flat = len(labels), [layer for row in layers for layer in row]
    combinations = list(itertools.product(*(range(len(row)) for row in layers)))
    firsts = list(itertools.accumulate([0, *map(len, layers)]))
    choose = torch.zeros((len(combinations), len(flat)), device=labels.device)
    for i, places in enumerate(combinations):
        choose[i, [firsts[j] + place for j, place in enumerate(places)]] = 1.0
    total = torch.zeros(len(combinations), dtype=torch.float64, device=labels.device)
    count = torch.zeros_like(total)
    outer = choose.new_full((len(combinations), n), torch.inf)
    size = max(1, _BUDGET_BYTES // (4 * n * len(flat)))
    _, lengths = torch.unique_consecutive(labels, return_counts=True)
    size = min(size, int(lengths.max()))
    buffer = choose.new_empty(
        len(flat) * size * n
    )  # one for all tiles: fresh pages would cost as much as the sums
    stops = lengths.cumsum(0)
    for length, stop in zip(lengths.tolist(), stops.tolist(), strict=True):
        if length == n:
            break  # one class: no row has an outer distance
        for begin in range(stop - length, stop, size):
            rows = slice(begin, min(begin + size, stop))
            values = _products(flat, rows, stop - length, buffer=buffer, masked=len(layers[0]))
            inner = _minima(values, choose, outer, rows=rows, stop=stop)
            ratio = _ratio(inner, outer[:, rows])
            good = torch.isfinite(ratio)
            total += torch.where(good, ratio, 0.0).double().sum(dim=1)
            count += good.sum(dim=1)
    return dict(zip(combinations, (total / count).tolist(), strict=True))  # 0 / 0 is NaN: no value


def _products(flat: list[_Layer], rows: slice, first: int, *, buffer: Tensor, masked: int) -> Tensor:
    """Compute squared distances of some rows to the points from `first` on.

    Returns (candidates, rows, n - first). A row is far away from itself in the first `masked` candidates.
    """
    shape = (len(flat), rows.stop - rows.start, len(flat[0].points) - first)
    values = buffer[: math.prod(shape)].view(shape)
    for layer, value in zip(flat, values, strict=True):
        torch.addmm(layer.norms[first:], layer.points[rows], layer.points[first:].T, alpha=-2, out=value)
        value += layer.norms[rows, None]
    place = torch.arange(rows.stop - rows.start, device=values.device)
    values[:masked, place, place + rows.start - first] = _FAR  # every combination holds one of these
    return values


def _minima(values: Tensor, choose: Tensor, outer: Tensor, *, rows: slice, stop: int) -> Tensor:
    """Find the smallest sums within the class, which ends at `stop`.

    Returns (combinations, rows).

    A distance between two classes is the same from both sides: it is added up once, in the earlier class's
    rows, and goes into `outer` (combinations, n) of both points.
    """
    inner = values.new_empty((values.shape[1], len(choose)))
    own = values.shape[2] - (outer.shape[1] - stop)
    by_row = values.transpose(0, 1)
    scratch = values.new_empty(_CACHED_ROWS * min(_CACHED_SUMS, len(choose)) * values.shape[2])
    for begin in range(0, len(inner), _CACHED_ROWS):
        part = slice(begin, min(begin + _CACHED_ROWS, len(inner)))
        here = slice(rows.start + part.start, rows.start + part.stop)
        for some in range(0, len(choose), _CACHED_SUMS):
            sums = slice(some, some + _CACHED_SUMS)
            wanted = choose[sums].expand(part.stop - part.start, -1, -1)
            added = scratch[: wanted.shape[0] * wanted.shape[1] * values.shape[2]]
            added = added.view(*wanted.shape[:2], -1)
            torch.bmm(wanted, by_row[part], out=added)
            inner[part, sums] = added[:, :, :own].amin(dim=2)
            others, later = added[:, :, own:], outer[sums, stop:]
            if later.shape[1]:
                outer[sums, here] = torch.minimum(outer[sums, here], others.amin(dim=2).T)
                torch.minimum(later, others.amin(dim=0), out=later)
    return inner.T


def _ratio(inner: Tensor, outer: Tensor) -> Tensor:
    """Divide smallest sums; not finite for a row without one."""
    alone = inner > _FAR / 2
    # Rounding may leave a tiny negative; both zero counts as one, zero outside alone as no value.
    inner, outer = inner.double().clamp(min=0), outer.double().clamp(min=0)
    ratio = torch.where((inner == 0) & (outer == 0), 1.0, (inner / outer).sqrt())
    return torch.where(alone, torch.inf, ratio)
