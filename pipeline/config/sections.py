"""The sections of the config; those with catalogue names are in `choices`.

They are kept together because light workers read a config without torch or Ray. Their owners, which know what the
values mean: `pool` (Pool), `learn` (Test, Slopes), `labels.oracle` (Oracle), `labels` (Labels), `model` (Model),
`sisom.bank` (Bank), `rounds.planning` (OpenWorld), `rounds.stopping` (Stop), `cluster` (Resources), `commands.tick`
(Tick), `track` (Tracking), `store` (Storage). The training of a round has a file of its own, `training`.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ByteSize, ConfigDict, Field, field_validator, model_validator

from pipeline.config.places import place
from pipeline.errors import mask, nearest
from pipeline.images.decode import Interpolation, Transform
from pipeline.types import LABELS, PART, QUARANTINE, QUERY, SCORED

if TYPE_CHECKING:
    from sisom import BankSpec

_SERVER = re.compile(r"^(https?://.|databricks(://|$)|(sqlite|postgresql|mysql|mssql)(\+\w+)?://)")
_CLEAN = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"  # no line breaks or terminal codes in names that are shown
Name = Annotated[str, Field(min_length=1, max_length=512, pattern=_CLEAN)]
Address = Annotated[str, Field(min_length=1, max_length=4096, pattern=_CLEAN)]  # of a server
Uri = Annotated[Address, AfterValidator(place)]
Globs = Annotated[tuple[Name, ...], Field(max_length=100)]
EXPORTED = (
    "round",
    "image",
    "fingerprint",
    "image_id",
    "link",
    "picture",
    "thumbnail",
)  # columns of exports beside a query's
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


class Section(BaseModel):
    """A frozen section that refuses unknown keys and wrong types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Pool(Section):
    """The unlabeled images: Parquet with one row an image, tars, or files.

    Of several URIs none lies inside another. `id_column` may be null: ids are then object and row. `images_per_shard`
    is how many image objects are read, scored and accounted for together. `tar_ids` says what names an image of a tar:
    its member name, or the tar's key before it where member names repeat. `include` and `exclude` are globs of keys
    below the URI. `metadata` names columns, or parts of keys such as `camera=3/`, that go into score files and queries.
    A round stops if more than `max_unreadable_files` tables and tars can't be read in full; null takes any number.
    """

    uri: Uri | tuple[Uri, ...]
    id_column: Name | None = "id"
    image_column: Name = "image"
    images_per_shard: Annotated[int, Field(ge=1, le=100_000)] = 1024
    tar_ids: Literal["member", "path"] = "member"
    include: Globs = ()
    exclude: Globs = ()
    metadata: Annotated[tuple[Name, ...], Field(max_length=100)] = ()
    max_unreadable_files: Annotated[int, Field(ge=0)] | None = 0

    @property
    def uris(self) -> tuple[str, ...]:
        """The places of the images, one or several."""
        return (self.uri,) if isinstance(self.uri, str) else self.uri

    @property
    def place(self) -> str:
        """The places in words for people."""
        more = f" and {len(self.uris) - 1} more" if len(self.uris) > 1 else ""
        return self.uris[0] + more

    @field_validator("uri")
    @classmethod
    def _apart(cls, uri: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(uri, str):
            return uri
        if not uri:
            raise ValueError("name at least one place")
        roots = sorted(f"{each.rstrip('/')}/" for each in uri)
        for one, other in itertools.pairwise(roots):
            if other.startswith(one):
                raise ValueError(
                    f"{other.rstrip('/')} lies in {one.rstrip('/')}: its images would count twice"
                )
        return uri if len(uri) > 1 else uri[0]  # a list of one is that one: its ids are the same

    @field_validator("metadata")
    @classmethod
    def _own_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        taken = {*PART.names, *SCORED.names, *QUARANTINE.names, *QUERY.names, *LABELS.names, *EXPORTED}
        for name in names:
            if name in taken:
                raise ValueError(f"{name!r} is a column that score files, queries or exports have already")
        if len(set(names)) < len(names):
            raise ValueError("name each column once")
        return names


class Test(Section):
    """The held-out labeled images, which evaluation alone reads.

    They have any form of a labeled set.
    """

    uri: Uri | None = None
    label_column: Name = "label"


class Oracle(Section):
    """The annotators: `simulated` from a table of truths, or `people`.

    The table has id, label and kind; people answer in label files.
    """

    kind: Literal["simulated", "people"] = "people"
    truth: Uri | None = None
    initial_per_class: Annotated[int, Field(ge=1)] = 10
    initial: Uri | None = None


class LabeledSet(Section):
    """Labeled images outside the pool, which every round learns from.

    Parquet with the pool's columns and `label_column`; image files or tars beside one CSV of id and label; or image
    files in folders that are named after their classes.
    """

    uri: Uri
    id_column: Name | None = None
    image_column: Name | None = None
    label_column: Name = "label"


class Labels(Section):
    """Labels beside the answers, and classes that are called otherwise now.

    `renamed` says what an earlier name of a class means today; two names with the same new one are merged.
    """

    sets: tuple[LabeledSet, ...] = ()
    renamed: dict[Name, Name] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _once(self) -> Labels:
        for old, new in self.renamed.items():
            if new in self.renamed:
                raise ValueError(
                    f"renamed: {old!r} is called {new!r}, which is renamed itself; say what both are now"
                )
        places = [one.uri.rstrip("/") for one in self.sets]
        if len(set(places)) < len(places):
            raise ValueError("sets: name each place once")
        return self


class Model(Section):
    """The classifier, its layers to extract, and its image transform."""

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
        from sisom.network.names import RESIDUAL, TORCHVISION

        names = (*RESIDUAL, *TORCHVISION)
        if name not in names:
            raise ValueError(f"unknown model {name!r}; {nearest(name, names)}")
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
        """Return the transform of this model's images; larger ones are refused."""
        return Transform(self.image_size, self.resize, self.interpolation, max_pixels)


class Slopes(Section):
    """The sigmoid steepness of each layer, given or searched.

    `default` holds without a search; a search starts from it.
    """

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
    """Settings for fitting the bank to labeled features.

    The defaults are those of `sisom.bank.spec.ROUNDS`.
    """

    subset: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    subset_method: Name = "random"
    outer: Literal["sample", "anchor"] = "sample"
    fusion: Literal["zscore", "raw"] = "zscore"
    rank: Literal[1, 2] = 1

    @property
    def spec(self) -> BankSpec:
        """The settings as the library takes them."""
        from dataclasses import fields

        from sisom import BankSpec

        return BankSpec(**self.model_dump(include={field.name for field in fields(BankSpec)}))


class OpenWorld(Section):
    """The growth of the taxonomy.

    A proposed class joins when `promote_at` answers name it; None keeps the taxonomy closed.
    """

    promote_at: Annotated[int, Field(ge=2)] | None = None


class Stop(Section):
    """Reasons to stop beside `rounds`, checked before each round.

    `labels` is the budget of answers, `accuracy` a target (on the test set, or held out without one), `plateau` how
    many rounds may bring no gain beyond noise, `hours` the working time of all rounds.
    """

    labels: Annotated[int, Field(ge=1)] | None = None
    accuracy: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    plateau: Annotated[int, Field(ge=1)] | None = None
    hours: Positive | None = None


class Resources(Section):
    """The limits of the work; `auto` takes a GPU where one is.

    `actors` is the most scoring actors, by default one a CPU or a GPU's share, of nodes that come later too; the pool
    may shrink to `min_actors` and grows again as CPUs allow. `memory` is of a node, such as "8GiB", by default what Ray
    finds. A bank that would fill more than `bank_share` of a node's object store is mapped from a file instead. Scoring
    that makes no progress for `no_progress_s` seconds is restarted.
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
    """Reasons for a scheduled step to start a round.

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


def is_server(uri: str) -> bool:
    """Return whether MLflow takes a URI for a server or a database."""
    return _SERVER.match(uri) is not None


class Tracking(Section):
    """MLflow: the server or database of `uri`.

    Without it MLFLOW_TRACKING_URI names one, or the store lies inside the workspace.
    """

    uri: Address | None = None
    experiment: Name = "sisom"

    @field_validator("uri")
    @classmethod
    def _reachable(cls, uri: str | None) -> str | None:
        if uri is not None and not is_server(uri):
            bare = "://" not in uri and not uri.startswith(("/", "file:"))
            raise ValueError(
                f"{mask(uri)!r} names no MLflow: http://, https://, sqlite:///, postgresql://, mysql:// and mssql:// "
                f"do; {f'write http://{mask(uri)}' if bare else 'use one of these'}"
            )
        return uri


class Access(Section):
    """An S3 endpoint, and references to its credentials, never the secrets.

    Without `access_key_env` and `secret_key_env`, names of environment variables, credentials are found in the standard
    AWS ways; `anonymous` (or `AWS_NO_SIGN_REQUEST`) sends requests without any. `session_token_env` names the token of
    temporary keys; `requester_pays` accepts to pay for requests to buckets that want it.
    """

    endpoint: Address | None = None
    region: Name | None = None
    anonymous: bool = False
    requester_pays: bool = False
    access_key_env: Name | None = None
    secret_key_env: Name | None = None
    session_token_env: Name | None = None

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if (self.access_key_env is None) != (self.secret_key_env is None):
            raise ValueError("access_key_env and secret_key_env need each other")
        if self.session_token_env is not None and self.access_key_env is None:
            raise ValueError("session_token_env goes with access_key_env and secret_key_env")
        if self.anonymous and self.requester_pays:
            raise ValueError("requester_pays needs credentials: somebody has to pay")
        if self.anonymous and self.access_key_env is not None:
            raise ValueError("anonymous requests take no access_key_env and secret_key_env")
        return self


class AccessTo(Access):
    """The access to a bucket or a prefix."""

    uri: Uri

    @field_validator("uri")
    @classmethod
    def _on_s3(cls, uri: str) -> str:
        if not uri.startswith("s3://"):
            raise ValueError(f"{uri!r}: write a bucket or a prefix of one, such as s3://bucket")
        return uri.rstrip("/")

    def covers(self, uri: str) -> bool:
        """Return whether a URI lies here."""
        return f"{uri.rstrip('/')}/".startswith(f"{self.uri}/")


class Storage(Access):
    """The access to all that lies on S3, but for `places`.

    Each of these has an access of its own, whole: what it leaves out has its default. Of two that fit, the longer one
    counts.
    """

    places: Annotated[tuple[AccessTo, ...], Field(max_length=100)] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        uris = [each.uri for each in self.places]
        for number, uri in enumerate(uris):
            if uri in uris[:number]:
                raise ValueError(f"places: {uri} stands here twice")
        # Ray's filesystems know the workspace's endpoint from a variable, which would send the others there too.
        lacking = [name for name, each in self._all() if each.endpoint is None]
        if lacking and len(lacking) <= len(self.places):
            raise ValueError(
                f"{lacking[0]}: no endpoint, though another place has one; name each place's, such as "
                f"https://s3.eu-west-1.amazonaws.com for a bucket at Amazon"
            )
        return self

    def _all(self) -> list[tuple[str, Access]]:
        return [("storage", self), *((f"places, {each.uri}", each) for each in self.places)]

    def of(self, uri: str) -> Access:
        """Return the access to a URI."""
        fitting = [each for each in self.places if each.covers(uri)]
        return max(fitting, key=lambda each: len(each.uri)) if fitting else self
