"""JSON artefacts of a round as values that read and write themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from pipeline.errors import ArtefactMissing, WorkspaceMismatch
from pipeline.workspace import keys
from pipeline.workspace.folder import Folder


class Value(BaseModel):
    """A part of a record; keys that older files lack have defaults."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Record(Value):
    """A JSON artefact, under its name in the folder of a round."""

    name: ClassVar[str]

    @classmethod
    def read(cls, folder: Folder) -> Self:
        """Read the artefact.

        Raises:
            ArtefactMissing: it is not there.
            ArtefactDamaged: it is not what it should be.
        """
        values = folder.read_json(cls.name)
        with folder.undamaged(cls.name):
            return cls.model_validate(values)

    @classmethod
    def find(cls, folder: Folder) -> Self | None:
        """Read the artefact; None if it is not there."""
        try:
            return cls.read(folder)
        except ArtefactMissing:
            return None

    def write(self, folder: Folder) -> None:
        """Write the artefact: what was given, and no defaults."""
        folder.write_json(self.name, self.model_dump(mode="json", exclude_unset=True))


class VersionedRecord(Record):
    """A record whose form may change with a release.

    Files without a version are of version 0.
    """

    latest: ClassVar[int] = 1
    version: int = 1

    @classmethod
    def read(cls, folder: Folder) -> Self:
        """Read the artefact of this release or an earlier one; see `Record.read`.

        Raises:
            WorkspaceMismatch: a later release has written it.
        """
        record = super().read(folder)
        if "version" not in record.model_fields_set:
            record = record.model_copy(update={"version": 0})
        if record.version > cls.latest:
            raise WorkspaceMismatch(
                f"{folder.url(cls.name)} is of version {record.version}, which a later release of sisom has written; "
                f"this one knows {cls.latest}: update it"
            )
        return record

    def write(self, folder: Folder) -> None:
        """Write the artefact in the form of this release."""
        values = self.model_dump(mode="json", exclude_unset=True)
        folder.write_json(self.name, values | {"version": self.latest})


class Training(BaseModel):
    """The course of a round's training; unknown keys are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    held_out: int = 0
    held_out_accuracy: float | None = None


class Unreadable(Value):
    """A labeled row or test image that could not be read."""

    id: str
    uri: str = ""
    reason: str = ""


class ModelRecord(Record):
    """A round's network and the course of its training."""

    name: ClassVar[str] = keys.MODEL_RECORD

    model: Mapping[str, Any] = {}
    taxonomy: tuple[str, ...] = ()
    training: Training = Training()
    unreadable: tuple[Unreadable, ...] = ()
    weights_sha256: str = ""


class Evaluation(Record):
    """The accuracy of a round's network; empty without a test set.

    `accuracy` is that over the `images` of classes in the taxonomy; `open_accuracy` counts the `undiscovered` images
    too, which nothing can get right. Neither counts the `unreadable` images; the first of them have their names in
    `unreadable_images`. Earlier releases did not count them: None.
    """

    name: ClassVar[str] = keys.EVALUATION

    accuracy: float | None = None
    images: int = 0
    per_class: Mapping[str, float] = {}
    open_accuracy: float | None = None
    undiscovered: int = 0
    unreadable: int | None = None
    unreadable_images: tuple[Unreadable, ...] = ()


class Trial(Value):
    """The slopes of a trial, and the ratio that they reached."""

    slopes: Mapping[str, float]
    r_avg: float


class SlopeSearch(Record):
    """The slopes of a round and the search for them.

    `note` says why a search was skipped.
    """

    name: ClassVar[str] = keys.SLOPES

    slopes: Mapping[str, float]
    r_avg: float | None = None
    default_r_avg: float | None = None
    method: str = ""
    trials: tuple[Trial, ...] = ()
    note: str | None = None


class Account(Record):
    """The fate of the listed rows in numbers."""

    name: ClassVar[str] = keys.ACCOUNT

    listed: int
    scored: int
    quarantined: int


class FarFilter(Record):
    """The energy at which strange rows begin to be far, if known.

    `far` and `rest` are the answers of either side, `youden` the true less the false positive rate among them.
    """

    name: ClassVar[str] = keys.FAR_FILTER

    far_from: float | None = None
    far: int = 0
    rest: int = 0
    youden: float | None = None


class Timing(Value):
    """The seconds that a step took, and the images it worked on."""

    seconds: float
    images: int = 0


class Commit(Record):
    """The time of a round's commit, in ISO 8601, and its fence."""

    name: ClassVar[str] = keys.COMMIT

    fence: int = 0
    at: str
