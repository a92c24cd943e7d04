"""Config sections that all studies share.

They are images, training, the resources of cells, and a choice from the catalogue.
"""

from __future__ import annotations

import hashlib
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator

from pipeline.config.sections import (
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
from pipeline.config.training import Crops
from pipeline.encoding import canonical
from pipeline.errors import nearest

Count = Annotated[int, Field(ge=1)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)]


class Data(Section):
    """Place of the image sets.

    With `uri`, each set is a folder of Parquet files below it (id, image, label and maybe label_name), and the files'
    names begin with the split. Without `uri`, torchvision's own loaders read `root`, and may `download`.
    """

    uri: Uri | None = None
    root: Uri = "data"
    download: bool = False


class ImageSet(Section):
    """A labeled image set by name, or a part of it.

    `uri` overrides the place of its Parquet files. `only` and `without` choose classes by name, where `*` stands for
    any text. `count` is the size of a random sample, the same one every time. `leave` is the size of a sample to leave
    out; it leaves out the images that `count` would take.
    """

    name: Name
    split: Name = "test"
    uri: Uri | None = None
    only: tuple[Name, ...] = ()
    without: tuple[Name, ...] = ()
    count: Count | None = None
    leave: Count | None = None


class Training(Section):
    """Options of training.

    The steps are those of a round, but the last epoch is kept.
    """

    epochs: Count = 200
    batch_size: Annotated[int, Field(ge=2)] = 128
    lr: Positive = 0.1
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0.0)] = 5e-4
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    augment: Crops = Crops()


class Compute(Section):
    """Resources of the cells.

    At most `trials` of them run at once; each has `threads` CPUs, or `gpu_share` of a GPU.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count = 1
    trials: Count | None = None
    gpu_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 256


class Choice(Section):
    """A method of the catalogue with options of its own.

    `called` tells two choices of one method apart.
    """

    name: Name
    called: Name | None = None
    options: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name of the choice in tables."""
        return self.called or self.name


class Study(Section):
    """Config that all studies share."""

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
        """Resources in the form that `pipeline.cluster` takes."""
        return Resources(device=self.compute.device, threads=self.compute.threads)

    def identity(self) -> dict[str, Any]:
        """Return the part of the config that results depend on.

        Left out is where results lie and what the study runs on.
        """
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
    """Check a choice from the catalogue.

    Args:
        where: key of the config, for messages.
        choice: the name and its options.
        known: the catalogue.
        build: builds the method.
        sweep: further options that the method must have.

    Raises:
        ValueError: a name that is not in the catalogue, an option that the method does not have, an error of `build`.
    """
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
    """Raise `ValueError` for a name that occurs twice."""
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise ValueError(f"{where}: names must differ; twice: {', '.join(twice[:5])}")
