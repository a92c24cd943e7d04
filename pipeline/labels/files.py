"""The label files of a workspace: append-only, each read once.

Files are read in the order of their keys, rows in the order of the file. `labels/tally.py` sums them up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import pyarrow as pa

from pipeline.config.history import as_of_its_day
from pipeline.errors import LabelError
from pipeline.labels.checks import check_batch
from pipeline.labels.forms.tables import check_size, not_parquet, read_foreign
from pipeline.labels.tally import Labels
from pipeline.types import LABELS
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.plan import Plan


def label_keys(workspace: Workspace) -> list[str]:
    """List the keys of the label files, in order."""
    return [key for key in workspace.keys(keys.LABELS) if key.endswith(".parquet")]


@dataclass(frozen=True, eq=False)
class LabelFile:
    """A label file and its rows, not checked yet."""

    key: str
    place: str
    data: bytes

    @classmethod
    def read(cls, workspace: Workspace, key: str) -> LabelFile:
        """Read a label file.

        Raises:
            LabelError: it is too large.
            ArtefactMissing: it is not there.
        """
        place = workspace.store.url(key)
        with not_parquet(place), workspace.store.open(key) as file:
            check_size(file.size(), place)
            return cls(key, place, file.read())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def rows(self) -> pa.Table:
        """The columns of an answer.

        Raises:
            LabelError: the file is not Parquet, or lacks one of them.
        """
        return read_foreign(pa.BufferReader(self.data), self.place, LABELS.names)


@dataclass(frozen=True, eq=False)
class LabelFiles:
    """Label files of a workspace, each read once, checked by taxonomy.

    A label file never changes once it is there, so `refreshed` reads only those that came since.
    """

    workspace: Workspace
    files: tuple[LabelFile, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)  # what former names of classes mean
    _checked: dict[tuple[str, ...], list[pa.Table]] = field(default_factory=dict, repr=False)
    _labels: dict[tuple[str, ...], Labels] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, workspace: Workspace, renamed: Mapping[str, str] | None = None) -> LabelFiles:
        """Read all label files that are there.

        `renamed` says what former names of classes mean.
        """
        return cls(workspace, renamed=renamed or {}).refreshed()

    def refreshed(self) -> LabelFiles:
        """Return the present label files; known ones are not read again."""
        there = label_keys(self.workspace)
        return self if there == self.keys else self.only(there)

    def only(self, names: Iterable[str]) -> LabelFiles:
        """Return the label files of some keys, in that order."""
        known = {file.key: file for file in self.files}
        chosen = (known.get(key) or LabelFile.read(self.workspace, key) for key in names)
        return LabelFiles(self.workspace, tuple(chosen), self.renamed)

    def as_planned(self, plan: Plan) -> LabelFiles:
        """Return the label files that a round learns from.

        Raises:
            LabelError: one of them has changed since the round was planned.
        """
        renamed = as_of_its_day(plan.config)["labels"]["renamed"]
        planned = replace(self.only(plan.labels), renamed=renamed, _checked={}, _labels={})
        for file in planned.files:
            if file.digest != plan.label_digests.get(file.key, file.digest):
                raise LabelError(
                    f"{file.place} has changed since round {plan.index:03d} was planned; put it back"
                )
        return planned

    @property
    def keys(self) -> list[str]:
        """Keys of the files, in order."""
        return [file.key for file in self.files]

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of each file by its key."""
        return {file.key: file.digest for file in self.files}

    def tables(self, taxonomy: Sequence[str]) -> list[pa.Table]:
        """Return the rows of each file as `LABELS`, every one checked.

        Raises:
            LabelError: an unknown status, or a class outside the taxonomy; says the file and the row.
        """
        classes = tuple(taxonomy)
        if classes not in self._checked:
            began = self._began_with or classes
            self._checked[classes] = [
                check_batch(file.rows, file.place, classes, offered=began, renamed=self.renamed)
                for file in self.files
            ]
        return self._checked[classes]

    @cached_property
    def _began_with(self) -> tuple[str, ...]:
        """The classes of the first round.

        They could be chosen from the start. A class that an answer proposed may have joined later; these can't be
        meant by a proposal.
        """
        plan = Plan.find(Folder.of_round(self.workspace, 0)) if self.files else None
        return () if plan is None else tuple(self.renamed.get(name, name) for name in plan.taxonomy)

    def labels(self, taxonomy: Sequence[str]) -> Labels:
        """Return the sum of all answers; see `tables` for what it raises."""
        classes = tuple(taxonomy)
        if classes not in self._labels:
            self._labels[classes] = Labels.of(self.tables(classes))
        return self._labels[classes]
