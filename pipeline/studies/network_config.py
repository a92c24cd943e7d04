"""Configs of studies that look at trained networks: detectors on them, and variants of SISOM."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, model_validator

from pipeline.config_file import as_model
from pipeline.errors import nearest
from pipeline.sections import Name, Positive, Section, Uri
from pipeline.studies.sections import Choice, Count, ImageSet, Study, Training, check_choice, refuse_twice


class OnNetworks(Study):
    """Studies that look at trained networks: given ones, or one trained for each seed.

    `checkpoints` are safetensors files, or folders of them, such as an active-learning study's. A file `X.json` beside
    `X.safetensors` that names `labeled` ids restricts the images that detectors are fitted on to these.
    """

    checkpoints: tuple[Uri, ...] = ()
    train: Training | None = None
    fit: ImageSet
    known: ImageSet
    near: tuple[ImageSet, ...] = ()
    far: tuple[ImageSet, ...] = ()

    @model_validator(mode="after")
    def _networks(self) -> OnNetworks:
        if (self.train is None) == (not self.checkpoints):
            raise ValueError("give either checkpoints or train")
        if not self.near and not self.far:
            raise ValueError("near, far: needs at least one set of unknown images")
        refuse_twice("near, far", (each.name for each in (*self.near, *self.far)))
        return self

    def groups(self) -> dict[str, tuple[ImageSet, ...]]:
        """The unknown sets by group, those without any left out."""
        return {name: sets for name, sets in (("near", self.near), ("far", self.far)) if sets}


class Detection(Choice):
    """A detector, fitted on all labeled images or on a sample of `rows` with equal shares of the classes.

    `sweep` lists values of options, or is `published`; the best combination on `validation` is taken.
    """

    rows: Count | None = None
    sweep: Literal["published"] | dict[str, tuple[JsonValue, ...]] = Field(default_factory=dict)

    def swept(self) -> dict[str, list[Any]]:
        """The values to choose from, by option."""
        import sisom

        found = sisom.SWEEPS.get(self.name, {}) if isinstance(self.sweep, str) else self.sweep
        return {key: list(values) for key, values in found.items()}


class Validation(Section):
    """Known and unknown images that choose hyper-parameters and are tested on by nobody."""

    known: ImageSet
    unknown: ImageSet


class OodStudy(OnNetworks):
    """Detectors x sets x checkpoints."""

    study: Literal["ood"]
    detectors: Annotated[tuple[Detection, ...], Field(min_length=1)]
    validation: Validation | None = None

    @model_validator(mode="after")
    def _known_detectors(self) -> OodStudy:
        import sisom  # on use: reading a config should not need torch before it must

        for choice in self.detectors:
            build = partial(sisom.DETECTORS.get(choice.name, dict), **choice.options)
            check_choice("detectors", choice, sisom.DETECTORS, build, choice.swept())
            if choice.sweep == "published" and not choice.swept():
                raise ValueError(f"detectors: no sweep of {choice.name} was published")
        refuse_twice("detectors", (choice.label for choice in self.detectors))
        if self.validation is None and any(choice.sweep for choice in self.detectors):
            raise ValueError("detectors: a sweep needs validation, to choose by")
        return self


# --------------------------------------------------------------------------------------------- ablation


class Variant(Section):
    """One way to build SISOM.

    `space` is what distances are taken in; `normalise: rows` gives each layer's part of a row length one. `slopes` is
    a preset, one number, one a layer, `typical` (the median |slope x saliency| of each layer is one) or `searched`
    (least r_avg). `partner` is what the ratio is fused with; `both` is the mean of the energy's z-score and the
    neighbor's.
    """

    layers: tuple[Name, ...] | None = None
    space: Literal["saliency", "penultimate"] = "saliency"
    normalise: Literal["none", "rows"] = "none"
    slopes: Name | Positive | dict[str, Positive] = "cifar10"
    outer: Literal["sample", "anchor"] = "sample"
    fusion: Literal["zscore", "raw"] = "zscore"
    rank: Literal[1, 2] = 1
    neighbors: Count = 1
    subset: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    subset_method: Name = "random"
    precision: Literal["fp32", "bf16"] = "fp32"
    partner: Literal["none", "energy", "knn", "both"] = "energy"

    @model_validator(mode="after")
    def _slopes_fit(self) -> Variant:
        measured = self.slopes in ("typical", "searched")
        if self.space == "penultimate" and not measured and not isinstance(self.slopes, float):
            raise ValueError("space: penultimate is one layer; its slopes are a number, typical or searched")
        if isinstance(self.slopes, str) and not measured:
            from sisom.presets import PRESETS

            if self.slopes not in PRESETS:
                known = [*PRESETS, "typical", "searched"]
                raise ValueError(f"unknown slopes {self.slopes!r}; {nearest(self.slopes, known)}")
        return self


class Search(Section):
    """How `slopes: searched` is found: every combination of `candidates` over the layers, on a sample of `rows`."""

    rows: Count = 1000
    candidates: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1e-2, 1.0, 1e2, 1e4)


class AblationStudy(OnNetworks):
    """Variants of SISOM x checkpoints: `base`, each value of `vary` alone, each of `also`, all combinations of `grid`.

    All are told as changes to `base`. `query` is how many of the known test images each variant asks about.
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
        """All variants by what sets them apart from the base, the base first."""
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
