"""A round in progress, as each step receives it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import sisom
from pipeline.cluster.faults import working
from pipeline.cluster.layout import Cluster
from pipeline.config.choices import QueryPlan
from pipeline.config.project import Config
from pipeline.labels import oracle
from pipeline.labels.files import LabelFiles
from pipeline.labels.tally import Labels
from pipeline.learn.embed import Embedded, embed
from pipeline.learn.rows import LabeledSet, read_labeled
from pipeline.model.detector import detector_for
from pipeline.rounds.steps import Step
from pipeline.rounds.stored import StoredRound
from pipeline.track.tracker import Tracker
from pipeline.voice import Voice
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.lease import Lease
from pipeline.workspace.records import Timing


@dataclass(frozen=True)
class Project:
    """The values that all rounds of a project share.

    `label_files` are those that have been read so far.
    """

    config: Config
    workspace: Workspace
    tracker: Tracker
    lease: Lease
    voice: Voice
    label_files: LabelFiles
    clock: Callable[[], float] = time.time  # seconds since 1970; a simulation has its own

    def refreshed(self) -> Project:
        """Return the project with the label files that are there now."""
        return replace(self, label_files=self.label_files.refreshed())


class Work:
    """A round in progress: what is stored, and what several steps share."""

    def __init__(self, project: Project, cluster: Cluster, index: int) -> None:
        self.project = project
        self.cluster = cluster
        self.index = index
        self.round = StoredRound(project.workspace, index, project.config)

    def on(self, cluster: Cluster) -> Work:
        """Return the same round, read anew, on another cluster."""
        return Work(self.project, cluster, self.index)

    @property
    def workspace(self) -> Workspace:
        """The project's workspace."""
        return self.project.workspace

    @property
    def folder(self) -> Folder:
        """The folder of the round's artefacts."""
        return self.round.folder

    @property
    def config(self) -> Config:
        """The config as the round has it, once it is planned."""
        return self.round.config

    def done(self, step: Step) -> bool:
        """Return whether a step is done: its artefact is there."""
        return step.done(self.workspace, self.index)

    @contextmanager
    def timed(self, name: str, images: Callable[[], int] | None = None) -> Iterator[None]:
        """Time a step, store its time beside the artefacts, and report it."""
        began = time.perf_counter()
        with working(name):  # a worker that dies for lack of memory is reported in a sentence
            yield
        timing = Timing(seconds=time.perf_counter() - began, images=images() if images else 0)
        self.folder.write_json(keys.timing_key(name), timing.model_dump())
        rate = f", {timing.images / timing.seconds:.0f} images/s" if timing.images else ""
        self.project.voice.say(f"  {name:<9} {timing.seconds:6.1f} s{rate}")

    @cached_property
    def attempt(self) -> str:
        """A name that changes with the frozen inputs.

        Work that resumes under the name was begun with the same inputs.
        """
        return f"round-{self.index:03d}-{self.folder.digest(keys.PLAN)[:8]}"

    @cached_property
    def labels(self) -> Labels:
        """The answers that the round was planned with."""
        return self.project.label_files.as_planned(self.round.plan).labels(self.config.taxonomy)

    @cached_property
    def labeled_set(self) -> LabeledSet:
        """The labeled rows, decoded into the object store."""
        table = self.folder.read_table(keys.LABELED)
        return read_labeled(table, self.round.snapshot, self.config)

    @cached_property
    def embedded(self) -> Embedded:
        """The features of the labeled rows."""
        return embed(self.labeled_set, self.round.network, self.config, cluster=self.cluster)

    @cached_property
    def judged_features(self) -> sisom.Features:
        """Features to fit the detector on; ODIN perturbs the images first."""
        config = self.config
        if not config.scoring.moves_images:
            return self.embedded.features
        detector = detector_for(config.scoring.score, config.scoring.options, config.model, head=None)
        moved = embed(self.labeled_set, self.round.network, config, cluster=self.cluster, moved_by=detector)
        return moved.features

    @cached_property
    def truth(self) -> oracle.Truth | None:
        """The truths, for the simulated oracle and for evaluation; None outside simulations."""
        return oracle.read_truth(self.config) if self.config.truth_uri else None

    @property
    def query_plan(self) -> QueryPlan:
        """The query's options, cut to what the label budget had left."""
        return self.config.query.model_copy(update={"size": self.round.plan.query_size})
