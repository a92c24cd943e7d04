"""The sections that all studies share: images, training, what it may take, and a choice from the catalogue."""

from __future__ import annotations

import hashlib
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator

from pipeline.config.sections import (
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
)
from pipeline.encoding import canonical
from pipeline.errors import nearest

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
    """Options of training by the steps of a round; the last epoch is kept."""

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


class Study(Section):
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
        refuse_twice("seeds", map(str, seeds))
        return seeds

    @property
    def resources(self) -> Resources:
        """The same wishes as `pipeline.cluster` takes them."""
        return Resources(device=self.compute.device, threads=self.compute.threads)

    def identity(self) -> dict[str, Any]:
        """What the results follow from: all but where they lie and what they run on."""
        free: dict[str, Any] = dict.fromkeys(("workspace", "tracking", "storage"), True)
        return self.model_dump(mode="json", exclude=free | {"compute": {"device", "trials", "gpu_share"}})

    def digest(self) -> str:
        """SHA-256 of `identity()` in canonical JSON."""
        return hashlib.sha256(canonical(self.identity())).hexdigest()


def check_choice(
    where: str,
    choice: Choice,
    known: Mapping[str, Callable[..., Any]],
    *,
    build: Callable[[], object],
    sweep: Iterable[str] = (),
) -> None:
    """Refuse a name that is not in the catalogue, an option that the method does not have, and what `build` refuses."""
    if choice.name not in known:
        raise ValueError(f"{where}: unknown name {choice.name!r}; {nearest(choice.name, known)}")
    taken = [name for name in inspect.signature(known[choice.name]).parameters if name != "head"]
    for option in (*choice.options, *sweep):
        if option not in taken:
            raise ValueError(f"{where}: {choice.name} takes no option {option!r}; {nearest(option, taken)}")
    try:
        build()
    except KeyError as error:
        raise ValueError(f"{where}: {choice.name}: no ranking is called {error}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {choice.name}: {error}") from None


def refuse_twice(where: str, names: Iterable[str]) -> None:
    """Refuse a name that stands there twice."""
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise ValueError(f"{where}: names must differ; twice: {', '.join(twice[:5])}")
