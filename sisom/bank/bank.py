"""The feature bank: a frozen value that scoring needs and nothing else.

It can be saved, shared between processes and compared.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from sisom.arrays import as_tensor
from sisom.bank.spec import BankSpec, Fusion, Outer
from sisom.errors import BankFormatError, InputError
from sisom.nearest.points import SortedPoints

__all__ = ["FeatureBank", "load_bank"]

_FORMAT = "sisom-bank"
_VERSION = 1
_TENSORS = {
    "points": torch.float32,
    "labels": torch.int64,
    "source": torch.int64,
    "energies": torch.float32,
    "anchor_distances": torch.float32,
    "anchor_sources": torch.int64,
}


@dataclass(frozen=True, eq=False)
class FeatureBank:
    """Enhanced features of labeled images, sorted by class, with their statistics.

    m points of d columns. `fit_bank` makes one; `load_bank` reads one.

    Args:
        points: tanh-half features, `sigmoid(slope * saliency) - 1/2`, float32.
        labels: the TRUE class of each point, ascending, int64.
        source: the row of the fitted set that each point is, so that leave-one-out goes by index.
        energies: the energy of each point's own logits.
        anchor_distances: for `outer="anchor"`, distances from each point to its two nearest points of other classes;
            otherwise empty.
        anchor_sources: for `outer="anchor"`, `source` of the nearest of the two; otherwise empty.
        num_classes: of the taxonomy.
        slopes: the slope of each layer that scoring needs.
        layer_dims: the columns of each layer, side by side.
        r_avg, r_std: mean and unbiased standard deviation of the leave-one-out ratio.
        energy_mean, energy_std: the same of the energy.
        outer, fusion, rank, neighbors: see `BankSpec`.
        threshold: the score above which an image is out-of-distribution, where one was set.
        pruned: layers whose share of the squared distance was too small to matter, with that share.
        counted: the number of ratios behind `r_avg`.
        skipped: the number of fitted rows without a leave-one-out ratio.
        fitted: the number of fitted rows.
        fixed_r_avg: whether `r_avg` was given instead of measured.
        held_out: whether the statistics come from other rows than the fitted ones.
        subset_method: the method that chose the points among the fitted rows; "all" where all are points.
        radius: the radius of that method, if it has one.
    """

    points: Float[Tensor, "m d"]
    labels: Int[Tensor, " m"]
    source: Int[Tensor, " m"]
    energies: Float[Tensor, " m"]
    anchor_distances: Float[Tensor, "a 2"]
    anchor_sources: Int[Tensor, " a"]
    num_classes: int
    slopes: tuple[tuple[str, float], ...]
    layer_dims: tuple[tuple[str, int], ...]
    r_avg: float
    r_std: float
    energy_mean: float
    energy_std: float
    outer: Outer = "sample"
    fusion: Fusion = "zscore"
    rank: int = 1
    neighbors: int = 1
    threshold: float | None = None
    pruned: tuple[tuple[str, float], ...] = ()
    counted: int = 0
    skipped: int = 0
    fitted: int = 0
    fixed_r_avg: bool = False
    held_out: bool = False
    subset_method: str = "all"
    radius: float | None = None

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def sorted_points(self) -> SortedPoints:
        """The points as a search takes them, computed once."""
        return SortedPoints.of(self.points, self.labels)

    @property
    def spec(self) -> BankSpec:
        """The spec that scores of this bank follow.

        Of the subset a bank keeps `subset_method` and `radius` alone.
        """
        fixed = self.r_avg if self.fixed_r_avg else None
        return BankSpec(
            outer=self.outer, fusion=self.fusion, rank=self.rank, neighbors=self.neighbors, r_avg=fixed
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers that scoring needs; `extract` may leave out all others."""
        return tuple(name for name, _ in self.layer_dims)

    def to(self, device: str | torch.device) -> FeatureBank:
        """Move the tensors to `device`, where `score` then computes."""
        return replace(self, **{name: getattr(self, name).to(device) for name in _TENSORS})

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return NumPy arrays that `from_arrays` reads.

        Tensors become arrays (no copy on a CPU), the rest JSON in the uint8 array `meta`.
        """
        arrays = {name: getattr(self, name).detach().cpu().contiguous().numpy() for name in _TENSORS}
        arrays["meta"] = np.frombuffer(self._meta().encode(), dtype=np.uint8)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> FeatureBank:
        """Restore a bank from arrays of `to_arrays`.

        Read-only arrays are used in place, so that workers share one bank.

        Raises `BankFormatError` when an array is missing, misshapen, or does not fit the metadata.
        """
        missing = [name for name in (*_TENSORS, "meta") if name not in arrays]
        if missing:
            raise BankFormatError(f"a bank needs the arrays {', '.join(missing)}")
        meta = bytes(np.asarray(arrays["meta"], dtype=np.uint8))
        return cls._restore(
            {name: as_tensor(arrays[name]) for name in _TENSORS}, meta.decode(errors="replace")
        )

    def to_bytes(self) -> bytes:
        """Return a safetensors file: tensors, with the rest as JSON metadata."""
        tensors = {name: getattr(self, name).detach().cpu().contiguous() for name in _TENSORS}
        return save_tensors(tensors, {_FORMAT: self._meta()})

    @classmethod
    def from_bytes(cls, data: bytes) -> FeatureBank:
        """Restore a bank from bytes of `to_bytes`; raises `BankFormatError` for others."""
        try:
            length = int.from_bytes(data[:8], "little")
            header = json.loads(data[8 : 8 + length]).get("__metadata__", {})
            tensors = load_tensors(data)
        except (SafetensorError, ValueError, AttributeError) as error:
            raise BankFormatError(f"not a safetensors file: {error}") from error
        if _FORMAT not in header:
            raise BankFormatError(f"a safetensors file without the {_FORMAT!r} metadata of a bank")
        return cls._restore(tensors, header[_FORMAT])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_bytes` to `path`, complete or not at all."""
        target = Path(path)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            partial.write_bytes(self.to_bytes())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def _meta(self) -> str:
        scalars = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _TENSORS}
        return json.dumps({"version": _VERSION, **scalars}, sort_keys=True, allow_nan=False)

    @classmethod
    def _restore(cls, tensors: Mapping[str, Tensor], meta: str) -> FeatureBank:
        try:
            scalars: dict[str, Any] = json.loads(meta)
            version = scalars.pop("version")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise BankFormatError(f"unreadable bank metadata: {error!r}") from error
        if version != _VERSION:
            raise BankFormatError(f"bank format version {version}, this library reads {_VERSION}")
        expected = {f.name for f in fields(cls)} - set(_TENSORS)
        if set(scalars) != expected:
            raise BankFormatError(f"bank metadata keys differ: {sorted(set(scalars) ^ expected)}")
        for name, dtype in _TENSORS.items():
            if name not in tensors or tensors[name].dtype != dtype:
                found = tensors[name].dtype if name in tensors else "nothing"
                raise BankFormatError(f"bank array {name!r} must be {dtype}, found {found}")
        try:
            for key in ("slopes", "layer_dims", "pruned"):
                scalars[key] = tuple((str(name), value) for name, value in scalars[key])
            bank = cls(**{**tensors, **scalars})
            bank._check()
        except (TypeError, ValueError) as error:
            if isinstance(error, BankFormatError):
                raise
            raise BankFormatError(f"malformed bank metadata: {error}") from error
        return bank

    def _check(self) -> None:
        """Refuse a bank that cannot be scored with, whoever wrote it."""
        m, width = len(self.points), sum(dim for _, dim in self.layer_dims)
        anchors = m if self.outer == "anchor" else 0
        shapes = {
            "points": (m, width),
            "labels": (m,),
            "source": (m,),
            "energies": (m,),
            "anchor_distances": (anchors, 2),
            "anchor_sources": (anchors,),
        }
        for name, shape in shapes.items():
            if tuple(getattr(self, name).shape) != shape:
                raise BankFormatError(
                    f"bank array {name!r} must have shape {shape}, found {tuple(getattr(self, name).shape)}"
                )
        if m == 0:
            raise BankFormatError("a bank without points")
        try:
            self.spec  # noqa: B018  refuses a variant that does not exist
        except InputError as error:
            raise BankFormatError(str(error)) from error
        if bool((self.labels[1:] < self.labels[:-1]).any()):
            raise BankFormatError("bank points are not sorted by class")
        if int(self.labels[0]) < 0 or int(self.labels[-1]) >= self.num_classes:
            raise BankFormatError(f"bank labels lie outside 0 to {self.num_classes - 1}")
        if [name for name, _ in self.slopes] != [name for name, _ in self.layer_dims]:
            raise BankFormatError("bank slopes and layers do not match")
        numbers = (self.r_avg, self.r_std, self.energy_mean, self.energy_std)
        if not all(math.isfinite(number) for number in numbers) or min(self.r_std, self.energy_std) <= 0:
            raise BankFormatError(f"bank statistics must be finite with positive deviations, found {numbers}")
        if not bool(torch.isfinite(self.points).all()):
            raise BankFormatError("bank points must be finite")


def load_bank(path: str | os.PathLike[str]) -> FeatureBank:
    """Read a bank that `FeatureBank.save` wrote.

    Raises:
        BankFormatError: when the file is not one.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = (file.metadata() or {}).get(_FORMAT)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise BankFormatError(f"{os.fspath(path)} is not a safetensors file: {error}") from error
    if meta is None:
        raise BankFormatError(f"{os.fspath(path)} has no {_FORMAT!r} metadata: not a bank")
    return FeatureBank._restore(tensors, meta)
