"""What a run may be told: frozen models, one a section of the YAML, that refuse what they do not know.

Values and catalogue names, never import paths. `config_file.load` reads one from a file.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, field_validator, model_validator

from pipeline.decode import Interpolation, Transform
from pipeline.errors import nearest

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
    """Where the unlabeled images are: Parquet with one row an image, tars of images, or image objects.

    `images_per_shard` is how many image objects are read, scored and accounted for together. `tar_ids` says what
    names an image of a tar: its member name, or the tar's key before it where member names repeat.
    """

    uri: Uri
    id_column: Name = "id"
    image_column: Name = "image"
    images_per_shard: Annotated[int, Field(ge=1, le=100_000)] = 1024
    tar_ids: Literal["member", "path"] = "member"


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
    """The classifier, the layers whose saliencies make the feature space, and what becomes of an image before."""

    name: Name = "cifar_resnet18"
    layers: tuple[Name, ...] = ("layer1", "layer2", "layer3", "avgpool")
    image_size: Annotated[int, Field(ge=8, le=1024)] = 32
    resize: Annotated[int, Field(ge=8, le=2048)] | None = None
    interpolation: Interpolation = "bilinear"
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

    @model_validator(mode="after")
    def _covers(self) -> Model:
        if self.resize is not None and self.resize < self.image_size:
            raise ValueError(f"resize ({self.resize}) must not be below image_size ({self.image_size})")
        return self

    def transform(self, max_pixels: int) -> Transform:
        """How images are decoded for this model; `max_pixels` is the largest that is taken."""
        return Transform(self.image_size, self.resize, self.interpolation, max_pixels)


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


BANK_SCORES = ("sisome", "sisom", "energy")


class Scoring(Section):
    """How the pool is scored, and when a row is called out of distribution.

    `score` is the bank's `sisome`, `sisom` or `energy`, or any detector of the catalogue, with its `options`.
    """

    batch_size: Annotated[int, Field(ge=1, le=4096)] = 256
    score: Name = "sisome"
    options: dict[Name, bool | int | float | str] = {}
    keep: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    max_quarantined: Share = 0.01
    max_pixels: Annotated[int, Field(ge=1)] = 50_000_000
    max_bytes: Annotated[int, Field(ge=1, le=2**31)] = 256 << 20

    @field_validator("score")
    @classmethod
    def _in_catalogue(cls, name: str) -> str:
        import sisom

        if name in BANK_SCORES:
            return name
        if name not in sisom.DETECTORS:
            raise ValueError(f"unknown detector {name!r}; {nearest(name, sisom.DETECTORS)}")
        return name

    @model_validator(mode="after")
    def _options(self) -> Scoring:
        if self.options and self.from_bank:
            raise ValueError(
                f"options: {self.score} comes out of the bank and takes none; see the section bank"
            )
        return self

    @property
    def from_bank(self) -> bool:
        """Whether the score is one of the bank's own."""
        return self.score in BANK_SCORES

    @property
    def column(self) -> str:
        """Where the score stands in score files."""
        return self.score if self.from_bank else "strangeness"


class Committee(Section):
    """Who votes where a strategy wants votes.

    For `bald`, the network itself with `dropout` before its classifier; for `qbc-vote` and `qbc-kl`, networks of which
    each is trained from a seed of its own. The round's network is one of the `members`.
    """

    members: Annotated[int, Field(ge=2, le=1000)] = 10
    dropout: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5


class QueryPlan(Section):
    """How many images a round asks about, by which strategy, and how many of them may be strange.

    `strategy` is a selector of the catalogue, with its `options`, or the detector that scores the pool. `ood_share` of
    a query goes to rows out of distribution. Once people have called some images out of this world, a filter tells the
    novel from the far, and the far get no more than `far_share` of the query, within `ood_share`.
    """

    size: Annotated[int, Field(ge=1)] = 100
    strategy: Name = "sisome"
    options: dict[Name, bool | int | float | str] = {}
    committee: Committee = Committee()
    ood_share: Share = 0.1
    far_share: Share = 0.02

    @field_validator("strategy")
    @classmethod
    def _in_catalogue(cls, name: str) -> str:
        if name in BANK_SCORES:
            return name
        import sisom

        if name not in sisom.SELECTORS and name not in sisom.DETECTORS:
            raise ValueError(f"unknown strategy {name!r}; {nearest(name, sisom.SELECTORS)}")
        return name

    @model_validator(mode="after")
    def _options(self) -> QueryPlan:
        if not self.options:
            return self
        import sisom

        if self.strategy not in sisom.SELECTORS:
            raise ValueError(f"options: {self.strategy} is a detector; its options are scoring.options")
        self.selector()
        return self

    def selector(self, **more: Any) -> Any:
        """The selector that the strategy names; `more` gives way to its options."""
        import sisom

        given: dict[str, Any] = more | self.options
        return sisom.build_selector(self.strategy, **given)

    @property
    def from_features(self) -> bool:
        """Whether each row's priority is given while its features are at hand, since scores don't tell it."""
        import sisom

        return self.strategy in sisom.ROW_SELECTORS and bool(
            self.selector().needs & {"features", "committee"}
        )

    @property
    def together(self) -> bool:
        """Whether the strategy looks at the rows of the pool together, and so at their features once more."""
        import sisom

        return self.strategy in sisom.SELECTORS and self.strategy not in sisom.ROW_SELECTORS

    @property
    def keeps(self) -> Literal["last", "deep"] | None:
        """What of the pool's features such a strategy looks at: those of the last layers, or of all."""
        selector = self.selector() if self.together else None
        if selector is None or not selector.needs & {"features", "committee"}:
            return None
        return "deep" if hasattr(selector, "slopes") else "last"

    @property
    def voters(self) -> Literal["dropout", "ensemble"] | None:
        """Who sits in the committee that the strategy asks: one network with dropout, or several."""
        import sisom

        if self.strategy not in sisom.SELECTORS:
            return None
        selector = self.selector()
        ranking = getattr(selector, "of", selector)
        who: Literal["dropout", "ensemble"] = getattr(ranking, "committee", "dropout")
        return who if "committee" in ranking.needs else None

    @property
    def votes(self) -> int:
        """How many votes each row carries."""
        return 0 if self.voters is None else self.committee.members

    @property
    def networks(self) -> int:
        """How many networks a round trains."""
        return self.committee.members if self.voters == "ensemble" else 1


class OpenWorld(Section):
    """How the classes grow: a proposed class joins when `promote_at` answers name it; None keeps them closed."""

    promote_at: Annotated[int, Field(ge=2)] | None = None


class Stop(Section):
    """When there have been rounds enough, beside `rounds`; looked at before each round.

    `labels` is the budget of answers, `accuracy` a target (on the test set, or held out without one), `plateau` how
    many rounds may bring no gain beyond noise, `hours` the working time of all rounds.
    """

    labels: Annotated[int, Field(ge=1)] | None = None
    accuracy: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    plateau: Annotated[int, Field(ge=1)] | None = None
    hours: Positive | None = None


class Resources(Section):
    """What the work may take. `auto` takes a GPU where the cluster has one.

    `actors` is the most scoring actors, by default one a CPU or a GPU's share, of nodes that come later too; the pool
    may shrink to `min_actors` and grows again as CPUs allow. `memory` is of a node, such as "8GiB", by default what Ray
    finds. A bank that would fill more than `bank_share` of a node's object store is mapped from a file instead. Scoring
    that makes no progress for `no_progress_s` seconds is started anew.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    actors: Annotated[int, Field(ge=1)] | None = None
    min_actors: Annotated[int, Field(ge=1)] = 1
    threads: Annotated[int, Field(ge=1)] = 1
    gpu_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    memory: ByteSize | None = None
    bank_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.25
    no_progress_s: Annotated[float, Field(ge=10.0)] = 900.0


class Tick(Section):
    """When a scheduled step has reason to start a round.

    `answered` is the share of the open query that must be answered; after `wait_h` hours any answer does. With no
    question open, a pool that has grown by `pool_growth`, or a round older than `max_age_h` hours, is reason enough,
    and so are new images whose scores differ from the last round's: a two-sample Kolmogorov-Smirnov test of up to
    `drift_images` of them with a p-value below `drift_p`.
    """

    answered: Share = 1.0
    wait_h: Positive | None = None
    pool_growth: Positive = 0.1
    drift_p: Annotated[float, Field(gt=0.0, lt=1.0)] | None = 1e-4
    drift_images: Annotated[int, Field(ge=20, le=10_000)] = 200
    max_age_h: Positive | None = None


class Tracking(Section):
    """MLflow. Without a `uri` the store lies inside the workspace."""

    uri: Uri | None = None
    experiment: Name = "sisom"


class Storage(Section):
    """An S3 endpoint, and where credentials are found: references, never the secrets themselves.

    Without `access_key_env` and `secret_key_env`, names of environment variables, the standard AWS ways hold;
    `anonymous` (or `AWS_NO_SIGN_REQUEST`) sends requests without any.
    """

    endpoint: Uri | None = None
    region: Name | None = None
    anonymous: bool = False
    access_key_env: Name | None = None
    secret_key_env: Name | None = None

    @model_validator(mode="after")
    def _one_way_in(self) -> Storage:
        if (self.access_key_env is None) != (self.secret_key_env is None):
            raise ValueError("access_key_env and secret_key_env need each other")
        if self.anonymous and self.access_key_env is not None:
            raise ValueError("anonymous requests take no access_key_env and secret_key_env")
        return self


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
    open_world: OpenWorld = OpenWorld()
    stop: Stop = Stop()
    resources: Resources = Resources()
    tick: Tick = Tick()
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
                        self._check_layers()
                        hint = nearest(layer, self.model.layers)
                        raise ValueError(f"{where}: {layer!r} is not one of model.layers; {hint}")
        missing = [layer for layer in self.model.layers if layer not in self.slope_defaults()]
        if missing:
            self._check_layers()
            raise ValueError(f"slopes.default: no slope for {', '.join(missing)}")
        if not self._streams():
            raise ValueError(
                f"query.strategy: {self.query.strategy!r} is a detector, and scoring.score is another one, "
                f"{self.scoring.score!r}"
            )
        if self.slopes.search == "grid" and set(self.slopes.grid) != set(self.model.layers):
            raise ValueError("slopes.grid: needs a list for each of model.layers")
        return self

    def _streams(self) -> bool:
        """Whether the query's strategy is a selector, or the very detector that scores the pool."""
        import sisom

        return self.query.strategy in (*sisom.SELECTORS, self.scoring.score)

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """What score files hold beside the bank's scores."""
        wanted = {"strangeness": not self.scoring.from_bank, "priority": self.query.from_features}
        return tuple(name for name, asked in wanted.items() if asked)

    def _check_layers(self) -> None:
        """Where slopes and layers disagree, a layer that the model does not have explains it best."""
        import sisom

        try:
            sisom.check_layers(sisom.build_model(self.model.name, 2, seed=0), self.model.layers)
        except sisom.errors.LayerError as error:
            raise ValueError(f"model.layers: {error}") from None

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
        """What makes a workspace this project's: all but where it is, how long it runs and what it runs on."""
        free: dict[str, Any] = dict.fromkeys(
            ("workspace", "rounds", "stop", "resources", "tick", "tracking", "storage"), True
        )
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
