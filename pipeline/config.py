"""One YAML a run, into frozen models. An error names the dotted path, the value and the nearest real key.

YAML holds values and catalogue names, never import paths. `load(path, overrides)` is the only way in.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipeline.errors import ConfigError, nearest

MAX_CONFIG_BYTES = 1 << 20
MAX_CLASSES = 100_000

_CLEAN = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"  # no line breaks or terminal codes in names that are shown
Name = Annotated[str, Field(min_length=1, max_length=512, pattern=_CLEAN)]
Uri = Annotated[str, Field(min_length=1, max_length=4096, pattern=_CLEAN)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


class Section(BaseModel):
    """A frozen piece of the config that refuses unknown keys and wrong types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Pool(Section):
    """Where the unlabeled images are: Parquet with one row an image."""

    uri: Uri
    id_column: Name = "id"
    image_column: Name = "image"


class Test(Section):
    """The held-out labeled images that evaluation alone reads: Parquet with `label_column` added."""

    uri: Uri | None = None
    label_column: Name = "label"


class Oracle(Section):
    """Who answers: `simulated` from a table of truths (id, label, kind), or `people` by label files."""

    kind: Literal["simulated", "people"] = "people"
    truth: Uri | None = None
    initial_per_class: Annotated[int, Field(ge=1)] = 10
    initial: Uri | None = None


class Model(Section):
    """The classifier and the layers whose saliencies make the feature space."""

    name: Name = "cifar_resnet18"
    layers: tuple[Name, ...] = ("layer1", "layer2", "layer3", "avgpool")
    image_size: Annotated[int, Field(ge=8, le=1024)] = 32
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[Positive, Positive, Positive] = (0.25, 0.25, 0.25)

    @field_validator("name")
    @classmethod
    def _in_catalogue(cls, name: str) -> str:
        import sisom  # on use: light workers read configs, and need no torch for it

        if name not in sisom.MODELS:
            raise ValueError(f"unknown model {name!r}; {nearest(name, sisom.MODELS)}")
        return name

    @field_validator("layers")
    @classmethod
    def _distinct(cls, layers: tuple[str, ...]) -> tuple[str, ...]:
        if not layers or len(set(layers)) != len(layers):
            raise ValueError("name at least one layer, each once")
        return layers


class Augment(Section):
    """Random crops after padding by `pad` pixels, and mirroring with probability one half."""

    pad: Annotated[int, Field(ge=0, le=64)] = 4
    flip: bool = True


class Train(Section):
    """How a round retrains the classifier."""

    start: Literal["fresh", "last"] = "fresh"
    epochs: Annotated[int, Field(ge=1)] = 200
    batch_size: Annotated[int, Field(ge=2)] = 128
    lr: Positive = 0.1
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0.0)] = 5e-4
    held_out: Annotated[float, Field(ge=0.0, le=0.5)] = 0.1
    augment: Augment = Augment()
    precision: Literal["fp32", "bf16"] = "fp32"
    num_workers: Annotated[int, Field(ge=1)] = 1
    checkpoint_every: Annotated[int, Field(ge=1)] = 10
    retries: Annotated[int, Field(ge=0)] = 2


class Slopes(Section):
    """The sigmoid steepness, one a layer: `default` without a search, else searched from there."""

    search: Literal["optuna", "grid", "none"] = "optuna"
    default: Positive | dict[str, Positive] = 1.0
    trials: Annotated[int, Field(ge=1, le=10_000)] = 32
    parallel: Annotated[int, Field(ge=1, le=1000)] = 4
    low: Positive = 1e-3
    high: Positive = 1e5
    grid: dict[str, tuple[Positive, ...]] = {}

    @model_validator(mode="after")
    def _range(self) -> Slopes:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        if self.search == "grid" and not self.grid:
            raise ValueError("search: grid needs `grid`, a list of slopes a layer")
        return self


class Bank(Section):
    """How the labeled features become the bank."""

    subset: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    subset_method: Name = "random"
    outer: Literal["sample", "anchor"] = "sample"
    fusion: Literal["zscore", "raw"] = "zscore"
    rank: Literal[1, 2] = 1


class Scoring(Section):
    """How the pool is scored, and when a row is called out of distribution."""

    batch_size: Annotated[int, Field(ge=1, le=4096)] = 256
    score: Literal["sisome", "sisom", "energy"] = "sisome"
    keep: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    max_quarantined: Share = 0.01
    max_pixels: Annotated[int, Field(ge=1)] = 50_000_000


class QueryPlan(Section):
    """How many images a round asks about, by which strategy, and how many of them may be strange."""

    size: Annotated[int, Field(ge=1)] = 100
    strategy: Name = "sisome"
    ood_share: Share = 0.1

    @field_validator("strategy")
    @classmethod
    def _in_catalogue(cls, name: str) -> str:
        import sisom

        if name not in sisom.SELECTORS:
            raise ValueError(f"unknown strategy {name!r}; {nearest(name, sisom.SELECTORS)}")
        return name


class Resources(Section):
    """What the work may take. `auto` takes a GPU where the cluster has one."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    actors: Annotated[int, Field(ge=1)] | None = None
    threads: Annotated[int, Field(ge=1)] = 1
    gpu_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0


class Tracking(Section):
    """MLflow. Without a `uri` the store lies inside the workspace."""

    uri: Uri | None = None
    experiment: Name = "sisom"


class Storage(Section):
    """An S3 endpoint; credentials come from the standard AWS variables alone."""

    endpoint: Uri | None = None
    region: Name | None = None


class Config(Section):
    """Everything one project needs to run."""

    workspace: Uri
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    rounds: Annotated[int, Field(ge=1, le=999)] = 10
    taxonomy: tuple[Name, ...]
    demo: Literal["digits"] | None = None
    pool: Pool
    test: Test = Test()
    oracle: Oracle = Oracle()
    model: Model = Model()
    train: Train = Train()
    slopes: Slopes = Slopes()
    bank: Bank = Bank()
    scoring: Scoring = Scoring()
    query: QueryPlan = QueryPlan()
    resources: Resources = Resources()
    tracking: Tracking = Tracking()
    storage: Storage = Storage()

    @field_validator("taxonomy")
    @classmethod
    def _classes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not 2 <= len(names) <= MAX_CLASSES:
            raise ValueError(f"needs 2 to {MAX_CLASSES} class names, got {len(names)}")
        twice = sorted(name for name, times in Counter(names).items() if times > 1)
        if twice:
            raise ValueError(f"class names must differ; twice: {', '.join(twice[:5])}")
        return names

    @model_validator(mode="after")
    def _whole(self) -> Config:
        if self.demo is None and self.oracle.kind == "simulated" and self.oracle.truth is None:
            raise ValueError("oracle.kind: simulated needs oracle.truth, a table of id, label, kind")
        if self.demo is None and self.oracle.kind == "people" and self.oracle.initial is None:
            raise ValueError("oracle.kind: people needs oracle.initial, a table of id, label to start from")
        for where, table in (("slopes.default", self.slopes.default), ("slopes.grid", self.slopes.grid)):
            if isinstance(table, Mapping):
                for layer in table:
                    if layer not in self.model.layers:
                        hint = nearest(layer, self.model.layers)
                        raise ValueError(f"{where}: {layer!r} is not one of model.layers; {hint}")
        missing = [layer for layer in self.model.layers if layer not in self.slope_defaults()]
        if missing:
            raise ValueError(f"slopes.default: no slope for {', '.join(missing)}")
        if self.slopes.search == "grid" and set(self.slopes.grid) != set(self.model.layers):
            raise ValueError("slopes.grid: needs a list for each of model.layers")
        return self

    @property
    def test_uri(self) -> str | None:
        """The held-out set; the demo's lies beside its pool unless the config says otherwise."""
        return self.test.uri or (_beside(self.pool.uri, "test") if self.demo else None)

    @property
    def truth_uri(self) -> str | None:
        """The simulated oracle's truths; the demo's lie beside its pool unless the config says otherwise."""
        return self.oracle.truth or (_beside(self.pool.uri, "truth") if self.demo else None)

    def slope_defaults(self) -> dict[str, float]:
        """The slope of each layer before any search."""
        default = self.slopes.default
        return dict(default) if isinstance(default, dict) else dict.fromkeys(self.model.layers, default)

    def identity(self) -> dict[str, Any]:
        """What makes a workspace this project's: all but how long it runs and what it runs on."""
        free: dict[str, Any] = dict.fromkeys(("rounds", "resources", "tracking", "storage"), True)
        # May be raised once a round has stopped at it: it decides whether to go on, not what comes out.
        return self.model_dump(mode="json", exclude=free | {"scoring": {"max_quarantined"}})

    def digest(self) -> str:
        """SHA-256 of `identity()` in canonical JSON."""
        return hashlib.sha256(canonical(self.identity())).hexdigest()


def canonical(value: Any) -> bytes:
    """JSON bytes that are equal whenever the values are: sorted keys, no spare white space."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def _beside(uri: str, name: str) -> str:
    head, _, _ = uri.rstrip("/").rpartition("/")
    return f"{head}/{name}" if head else name


# ------------------------------------------------------------------------------------------------ loading


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, reads 1e-3 as a number, and a date as the text it is."""


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} is not text", key_node.start_mark
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} stands here a second time", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


# Only what JSON can say too: no dates, sets or binaries.
_TAGS = [f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq")]
_constructors: dict[Any, Any] = {tag: yaml.SafeLoader.yaml_constructors[tag] for tag in _TAGS}
_constructors[None] = yaml.SafeLoader.construct_undefined
_constructors["tag:yaml.org,2002:timestamp"] = yaml.SafeLoader.construct_yaml_str
_constructors[yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG] = _mapping
_Loader.yaml_constructors = _constructors
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )


def _parse(text: str, where: str) -> Any:
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_Loader)):
            raise ConfigError(f"{where}: YAML aliases (*name) are not read here; write the value out")
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        raise ConfigError(f"{place}: {getattr(error, 'problem', None) or _line(error)}") from None
    except ValueError as error:  # 5000 digits, or a tag that promises a number
        raise ConfigError(f"{where}: not a number: {_line(error)}") from None
    except RecursionError:
        raise ConfigError(f"{where}: nested too deeply") from None


def _override(data: dict[str, Any], assignment: str) -> None:
    path, equals, text = assignment.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {assignment}: write it as key.path=value")
    place = data
    for key in keys[:-1]:
        inner = place.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {assignment}: {key} holds a value, not a section")
        place = inner
    place[keys[-1]] = _parse(text, f"--set {path}")


def _fields_at(path: Sequence[int | str]) -> list[str]:
    """Names of the keys that the section at `path` knows."""
    model: Any = Config
    for key in path:
        if not (isinstance(model, type) and issubclass(model, BaseModel)) or key not in model.model_fields:
            return []
        annotation = model.model_fields[str(key)].annotation
        options = [annotation, *get_args(annotation)]
        model = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _above(place: tuple[int | str, ...], other: tuple[int | str, ...]) -> bool:
    return len(place) < len(other) and other[: len(place)] == place


def _explain(error: ValidationError, where: str) -> ConfigError:
    found: dict[tuple[int | str, ...], Any] = {}
    for each in error.errors(include_url=False):
        place = tuple(part for part in each["loc"] if not str(part).startswith(("constrained-", "dict[")))
        found.setdefault(place, each)
    # Where a value may be of two kinds, the fault of the kind that it nearly is lies deeper: that one is told.
    faults = [place for place in found if not any(_above(place, other) for other in found)]
    location, first = faults[0], found[faults[0]]
    path = ".".join(str(part) for part in location)
    value = first.get("input")
    shown = f" (got {str(value)[:80]!r})" if not isinstance(value, dict | list) else ""
    if first["type"] == "extra_forbidden":
        text = f"{path}: unknown key; {nearest(str(location[-1]), _fields_at(location[:-1]))}"
    elif first["type"] == "missing":
        text = f"{path}: missing, and it has no default"
    elif first["type"] == "value_error":
        text = (f"{path}: " if path else "") + first["msg"].removeprefix("Value error, ")
    elif first["type"] == "json_invalid":
        text = "holds text that is not valid Unicode, or is nested too deeply"
    elif first["type"] == "string_pattern_mismatch":
        text = f"{path}: holds control characters{shown}"
    else:
        text = f"{path}: {first['msg'][0].lower()}{first['msg'][1:]}{shown}"
    more = len(faults) - 1
    result = ConfigError(f"{where}: {text}" + (f" (and {more} more)" if more else ""))
    result.path = path
    return result


def parse(text: str, where: str, overrides: Sequence[str] = ()) -> Config:
    """Read a config from YAML text.

    Args:
        text: the YAML.
        where: how to call it in messages, usually its path.
        overrides: `key.path=value` assignments, applied in order.

    Raises:
        ConfigError: an unknown key, a wrong type, an impossible value; the message says where.
    """
    data = _parse(text, where)
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected `key: value` lines, got {type(data).__name__}")
    for assignment in overrides:
        _override(data, assignment)
    try:
        return Config.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise _explain(error, where) from None
    except (TypeError, ValueError) as error:  # a YAML date, a binary: nothing that JSON can say
        raise ConfigError(f"{where}: {error}") from None


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config file; see `parse`."""
    file = Path(path)
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: too large for a config (at most {MAX_CONFIG_BYTES} bytes)")
        text = data.decode()
    except FileNotFoundError:
        siblings = [p.name for p in file.parent.glob("*.yaml")] if file.parent.is_dir() else []
        hint = f" ({nearest(file.name, siblings)})" if siblings else ""
        raise ConfigError(f"{path}: no such file{hint}") from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a null byte in the path
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return parse(text, str(path), overrides)


def dump(config: Config) -> str:
    """The resolved config as YAML, defaults included; `parse` gives an equal config back."""
    data = config.model_dump(mode="json")
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
