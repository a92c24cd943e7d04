"""What a study may be told: frozen models as those of `pipeline.config`, one for each kind of study.

`load_study` reads one from a file; `study: active-learning | ood | ablation` says which it is.
"""

from __future__ import annotations

import hashlib
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from pipeline.config import (
    Augment,
    Model,
    Name,
    Positive,
    Resources,
    Section,
    Share,
    Storage,
    Tracking,
    Uri,
    canonical,
)
from pipeline.config_file import as_model, read
from pipeline.errors import ConfigError, nearest

Count = Annotated[int, Field(ge=1)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)]


class Data(Section):
    """Where image sets are found.

    With `uri`, each set is a folder of Parquet below it (id, image, label and maybe label_name), its split the
    beginning of the files' names. Without, torchvision's own loaders read `root`, and may `download`.
    """

    uri: Uri | None = None
    root: Uri = "data"
    download: bool = False


class ImageSet(Section):
    """Labeled images by name, or all or some of them.

    `uri` overrides where its Parquet lies. `only` and `without` choose classes by name, where `*` stands for
    anything; `count` is the size of a random sample, the same one every time, and `leave` the size of a sample to leave
    out: the very one that `count` would take.
    """

    name: Name
    split: Name = "test"
    uri: Uri | None = None
    only: tuple[Name, ...] = ()
    without: tuple[Name, ...] = ()
    count: Count | None = None
    leave: Count | None = None


class Training(Section):
    """How a network is trained: SGD with Nesterov momentum, cosine from `lr` to zero, the last epoch kept."""

    epochs: Count = 200
    batch_size: Annotated[int, Field(ge=2)] = 128
    lr: Positive = 0.1
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0.0)] = 5e-4
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    augment: Augment = Augment()


class Compute(Section):
    """What the cells may take. `trials` at most run at once; each has `threads` CPUs, or a share of a GPU."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count = 1
    trials: Count | None = None
    gpu_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 256


class Choice(Section):
    """A method of the catalogue with options of its own; `called` tells two of one name apart."""

    name: Name
    called: Name | None = None
    options: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        """What the method is called in tables."""
        return self.called or self.name


class _Study(Section):
    """What all studies have in common."""

    workspace: Uri
    seeds: Seeds = (0, 1, 2)
    data: Data = Data()
    model: Model = Model()
    compute: Compute = Compute()
    tracking: Tracking = Tracking()
    storage: Storage = Storage()

    @field_validator("seeds")
    @classmethod
    def _once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        _refuse_twice("seeds", map(str, seeds))
        return seeds

    @property
    def resources(self) -> Resources:
        """The same wishes as `pipeline.engine` takes them."""
        return Resources(device=self.compute.device, threads=self.compute.threads)

    def identity(self) -> dict[str, Any]:
        """What the results follow from: all but where they lie and what they run on."""
        free: dict[str, Any] = dict.fromkeys(("workspace", "tracking", "storage"), True)
        return self.model_dump(mode="json", exclude=free | {"compute": {"device", "trials", "gpu_share"}})

    def digest(self) -> str:
        """SHA-256 of `identity()` in canonical JSON."""
        return hashlib.sha256(canonical(self.identity())).hexdigest()


# ------------------------------------------------------------------------------------------ on trained networks


class _OnNetworks(_Study):
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
    def _networks(self) -> _OnNetworks:
        if (self.train is None) == (not self.checkpoints):
            raise ValueError("give either checkpoints or train")
        if not self.near and not self.far:
            raise ValueError("near, far: needs at least one set of unknown images")
        _refuse_twice("near, far", (each.name for each in (*self.near, *self.far)))
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


class OodStudy(_OnNetworks):
    """Detectors x sets x checkpoints."""

    study: Literal["ood"]
    detectors: Annotated[tuple[Detection, ...], Field(min_length=1)]
    validation: Validation | None = None

    @model_validator(mode="after")
    def _known_detectors(self) -> OodStudy:
        import sisom  # on use: reading a config should not need torch before it must

        for choice in self.detectors:
            _check_choice("detectors", choice, choice.swept(), sisom.DETECTORS)
            if choice.sweep == "published" and not choice.swept():
                raise ValueError(f"detectors: no sweep of {choice.name} was published")
        _refuse_twice("detectors", (choice.label for choice in self.detectors))
        if self.validation is None and any(choice.sweep for choice in self.detectors):
            raise ValueError("detectors: a sweep needs validation, to choose by")
        return self


# --------------------------------------------------------------------------------------------- ablation


class Variant(Section):
    """One way to build SISOM.

    `space` is what distances are taken in; `normalise: rows` gives each layer's part of a row length one. `slopes` is
    a preset, one number, one a layer, `typical` (the median |slope x saliency| of each layer is one) or `searched`
    (least r_avg). `partner` is what the ratio is fused with.
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
    partner: Literal["none", "energy", "knn"] = "energy"

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


class AblationStudy(_OnNetworks):
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
        from itertools import product

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


# -------------------------------------------------------------------------------------------- active learning


class Space(Section):
    """How the labeled set becomes SISOM's bank in each round; see `sisom.fit_bank`."""

    slopes: Name | Positive | dict[str, Positive] = "cifar10"
    subset: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    subset_method: Name = "random"
    outer: Literal["sample", "anchor"] = "sample"
    fusion: Literal["zscore", "raw"] = "zscore"
    rank: Literal[1, 2] = 1
    neighbors: Count = 1


class Strategy(Choice):
    """A selector. `filter`, for open sets, keeps from it what the labeled far images tell apart by energy."""

    filter: bool = False

    def selector(self, head: Any = None) -> Any:
        """The selector; `head` is the network's last layer, for those that look at it."""
        import sisom

        kind = sisom.SELECTORS[self.name]
        options: dict[str, Any] = dict(self.options)
        if isinstance(options.get("of"), str):  # a ranking that another selector levels over the classes
            options["of"] = sisom.ROW_SELECTORS[options["of"]]()
        if "head" in inspect.signature(kind).parameters:
            options["head"] = head
        return kind(**options)


class Committee(Section):
    """Who votes where a strategy wants votes: the network itself with this dropout before its classifier."""

    members: Annotated[int, Field(ge=2)] = 10
    dropout: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5


class OpenSet(Section):
    """A pool in which a share of the classes is not known yet, and other images are of no class at all.

    The first `known` of the classes are known from the start. Another one becomes known when `promote` of its images
    are labeled. The images of `far` lie in the pool; those that were labeled teach the network to be unsure, with
    weight `exposure`.
    """

    known: Annotated[float, Field(gt=0.0, le=1.0)] = 0.6
    far: tuple[ImageSet, ...] = ()
    exposure: Annotated[float, Field(ge=0.0)] = 0.5
    promote: Count = 100


class ActiveStudy(_Study):
    """Strategies x seeds x rounds, from a fully labeled set."""

    study: Literal["active-learning"]
    pool: ImageSet
    test: ImageSet
    initial: Annotated[int, Field(ge=2)]
    query: Count
    rounds: Annotated[int, Field(ge=2, le=999)]
    strategies: Annotated[tuple[Strategy, ...], Field(min_length=1)]
    train: Training = Training()
    start: Uri | None = None
    space: Space = Space()
    committee: Committee = Committee()
    targets: tuple[Share, ...] = ()
    open_set: OpenSet | None = None

    @model_validator(mode="after")
    def _known_strategies(self) -> ActiveStudy:
        import sisom

        for choice in self.strategies:
            _check_choice("strategies", choice, {}, sisom.SELECTORS)
            if choice.filter and self.open_set is None:
                raise ValueError(f"strategies: {choice.label} filters, which needs open_set")
        _refuse_twice("strategies", (choice.label for choice in self.strategies))
        return self


# --------------------------------------------------------------------------------------------------- reading


STUDIES: dict[str, type[ActiveStudy] | type[OodStudy] | type[AblationStudy]] = {
    "active-learning": ActiveStudy,
    "ood": OodStudy,
    "ablation": AblationStudy,
}
StudyConfig = ActiveStudy | OodStudy | AblationStudy


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study's config; `overrides` are `key.path=value` assignments, applied in order.

    Raises:
        ConfigError: an unknown key, a wrong type, an impossible value; the message says where.
    """
    data = read(path, overrides)
    kind = data.get("study")
    if not isinstance(kind, str) or kind not in STUDIES:
        hint = nearest(str(kind), STUDIES) if kind is not None else f"write one of {', '.join(STUDIES)}"
        error = ConfigError(
            f"{path}: study: {'missing' if kind is None else f'unknown kind {kind!r}'}; {hint}"
        )
        error.path = "study"
        raise error
    for key in ("detectors", "strategies"):
        if isinstance(data.get(key), list):  # a bare name stands for a choice without options
            data[key] = [{"name": each} if isinstance(each, str) else each for each in data[key]]
    return as_model(STUDIES[kind], data, str(path))


def _check_choice(
    where: str, choice: Choice, sweep: Mapping[str, Any], known: Mapping[str, Callable[..., Any]]
) -> None:
    if choice.name not in known:
        raise ValueError(f"{where}: unknown name {choice.name!r}; {nearest(choice.name, known)}")
    taken = [name for name in inspect.signature(known[choice.name]).parameters if name != "head"]
    for option in (*choice.options, *sweep):
        if option not in taken:
            raise ValueError(f"{where}: {choice.name} takes no option {option!r}; {nearest(option, taken)}")
    try:
        choice.selector() if isinstance(choice, Strategy) else known[choice.name](**choice.options)
    except KeyError as error:
        raise ValueError(f"{where}: {choice.name}: no ranking is called {error}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {choice.name}: {error}") from None


def _refuse_twice(where: str, names: Iterable[str]) -> None:
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise ValueError(f"{where}: names must differ; twice: {', '.join(twice[:5])}")
