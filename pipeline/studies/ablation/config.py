"""Config of the study of SISOM's variants."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, model_validator

from pipeline.config.load import as_model
from pipeline.config.sections import Bank, Name, Positive, Section
from pipeline.errors import nearest
from pipeline.studies.on_networks import OnNetworks
from pipeline.studies.sections import Count


class Variant(Bank):
    """A way to build SISOM.

    `space` is the space of the distances; `normalise: rows` scales each layer's part of a row to length one. `slopes`
    is a preset, one number, one a layer, `typical` (the median |slope x saliency| of each layer is one) or `searched`
    (least r_avg). `partner` is what the ratio is fused with; `both` is the mean of the energy's z-score and the
    neighbor's.
    """

    layers: tuple[Name, ...] | None = None
    space: Literal["saliency", "penultimate"] = "saliency"
    normalise: Literal["none", "rows"] = "none"
    slopes: Name | Positive | dict[str, Positive] = "cifar10"
    neighbors: Count = 1
    subset: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    partner: Literal["none", "energy", "knn", "both"] = "energy"

    @model_validator(mode="after")
    def _slopes_fit(self) -> Variant:
        measured = self.slopes in ("typical", "searched")
        if self.space == "penultimate" and not measured and not isinstance(self.slopes, float):
            raise ValueError("space: penultimate is one layer; its slopes are a number, typical or searched")
        if isinstance(self.slopes, str) and not measured:
            from sisom.bank.presets import PRESETS

            if self.slopes not in PRESETS:
                known = [*PRESETS, "typical", "searched"]
                raise ValueError(f"unknown slopes {self.slopes!r}; {nearest(self.slopes, known)}")
        return self


class Search(Section):
    """Options of the search for `slopes: searched`.

    It tries every combination of `candidates` over the layers, on a sample of `rows`.
    """

    rows: Count = 1000
    candidates: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1e-2, 1.0, 1e2, 1e4)


class AblationStudy(OnNetworks):
    """A study of variants of SISOM x checkpoints.

    The variants are `base`, each value of `vary` alone, each of `also`, and all combinations of `grid`. They are given
    as changes to `base`. `query` is the number of known test images that each variant asks about.
    """

    study: Literal["ablation"]
    base: Variant = Variant()
    vary: dict[str, tuple[JsonValue, ...]] = Field(default_factory=dict)
    also: tuple[dict[str, JsonValue], ...] = ()
    grid: dict[str, tuple[JsonValue, ...]] = Field(default_factory=dict)
    search: Search = Search()
    query: Count = 250

    @model_validator(mode="after")
    def _buildable(self) -> AblationStudy:
        told: list[tuple[str, Iterable[str]]] = [("vary", self.vary), ("grid", self.grid)]
        told += [("also", each) for each in self.also]
        for where, keys in told:
            for key in keys:
                if key not in Variant.model_fields:
                    raise ValueError(f"{where}: no part {key!r}; {nearest(key, Variant.model_fields)}")
        self.variants()
        return self

    def variants(self) -> dict[str, Variant]:
        """Return all variants by their changes to the base, which is first."""
        changes: list[dict[str, Any]] = [{}]
        changes += [{key: value} for key, values in self.vary.items() for value in values]
        changes += self.also
        changes += [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]
        base = self.base.model_dump(mode="json")
        found: dict[str, Variant] = {}
        for change in changes:
            different = {key: value for key, value in change.items() if base[key] != value}
            name = ", ".join(f"{key}={_shown(value)}" for key, value in different.items()) or "base"
            found[name] = as_model(Variant, base | different, f"variant {name}")
        return found


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(str, value))
    if isinstance(value, dict):
        return " ".join(f"{key}:{each:g}" for key, each in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
