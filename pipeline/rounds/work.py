"""A round in progress: what every step of it is given."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sisom
from pipeline.cluster.faults import working
from pipeline.cluster.layout import Cluster
from pipeline.config.choices import QueryPlan
from pipeline.config.project import Config
from pipeline.errors import LabelError
from pipeline.labels import oracle
from pipeline.labels.batches import read_labels
from pipeline.labels.tally import Labels
from pipeline.learn import rows as labeled
from pipeline.learn.embed import Embedded, embed
from pipeline.model.detector import detector_for
from pipeline.model.network import Network
from pipeline.pool.snapshot import Snapshot
from pipeline.rounds.stored import stored_network
from pipeline.track.tracker import Tracker
from pipeline.voice import Voice
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.frozen import as_planned
from pipeline.workspace.keys import round_key
from pipeline.workspace.lease import Lease


@dataclass(frozen=True)
class Project:
    """What every round of a project shares."""

    config: Config
    workspace: Workspace
    tracker: Tracker
    lease: Lease
    voice: Voice
    clock: Callable[[], float] = time.time  # seconds since 1970; a simulation has its own


class Work:
    """A round in progress: its keys, its frozen inputs, and what several steps read, each read once.

    `config` is the project's until the round is planned, and from then on as the round has it.
    """

    def __init__(self, project: Project, cluster: Cluster, index: int) -> None:
        self.project = project
        self.workspace = project.workspace
        self.cluster = cluster
        self.index = index

    @property
    def folder(self) -> Folder:
        """The round's folder in the workspace."""
        return Folder.of_round(self.workspace, self.index)

    def key(self, name: str) -> str:
        """Where an artefact of this round lies in the workspace."""
        return round_key(self.index, name)

    def done(self, name: str) -> bool:
        """Whether an artefact is there: its step is not done again."""
        return self.workspace.exists(self.key(name))

    @contextmanager
    def timed(self, stage: str, images: Callable[[], int] | None = None) -> Iterator[None]:
        """Announce a stage and leave its seconds, and its images per second, beside the artefacts."""
        began = time.perf_counter()
        with working(stage):  # a worker that dies for want of memory is told in a sentence
            yield
        seconds = time.perf_counter() - began
        count = images() if images else 0
        self.workspace.write_json(self.key(keys.timing_key(stage)), {"seconds": seconds, "images": count})
        rate = f", {count / seconds:.0f} images/s" if count else ""
        self.project.voice.say(f"  {stage:<9} {seconds:6.1f} s{rate}")

    @property
    def config(self) -> Config:
        """The config as this round has it."""
        return as_planned(self.project.config, self.plan)

    @cached_property
    def plan(self) -> Mapping[str, Any]:
        """The frozen inputs."""
        found: Mapping[str, Any] = self.workspace.read_json(self.key(keys.PLAN))
        return found

    @cached_property
    def attempt(self) -> str:
        """A name that other frozen inputs would change: whatever goes on under it was begun with these."""
        return f"round-{self.index:03d}-{self.workspace.digest(self.key(keys.PLAN))[:8]}"

    @cached_property
    def snapshot(self) -> Snapshot:
        """The frozen listing of the pool."""
        return Snapshot.read(self.folder)

    @cached_property
    def labels(self) -> Labels:
        """The answers that this round learns from, as they were when it was planned."""
        for key, digest in self.plan["label_digests"].items():
            if self.workspace.digest(key) != digest:
                place = self.workspace.store.url(key)
                raise LabelError(f"{place} has changed since round {self.index:03d} was planned; put it back")
        return read_labels(self.workspace, self.plan["labels"], self.config.taxonomy)

    @cached_property
    def labeled_set(self) -> labeled.LabeledSet:
        """The labeled rows, decoded into the object store."""
        table = self.workspace.read_table(self.key(keys.LABELED))
        return labeled.read_labeled(table, self.snapshot, self.config, self.cluster)

    @cached_property
    def network(self) -> Network:
        """The trained classifier."""
        return stored_network(self.workspace, self.index, self.config)

    @cached_property
    def embedded(self) -> Embedded:
        """The features of the labeled rows."""
        return embed(self.labeled_set, self.network, self.config, self.cluster)

    @cached_property
    def judged_features(self) -> sisom.Features:
        """The labeled rows as the config's detector wants them: of other images, where it changes these."""
        config = self.config
        if not config.scoring.moves_images:
            return self.embedded.features
        detector = detector_for(config.scoring.score, config.scoring.options, config.model, None)
        return embed(self.labeled_set, self.network, self.config, self.cluster, moved_by=detector).features

    @cached_property
    def truth(self) -> oracle.Truth | None:
        """The truths, for the simulated oracle and for evaluation; None outside simulations."""
        return oracle.read_truth(self.config) if self.config.truth_uri else None

    @property
    def query_plan(self) -> QueryPlan:
        """What the query may hold: no more than the budget of labels had left."""
        return self.config.query.model_copy(update={"size": self.plan["query_size"]})


def round_seed(seed: int, index: int) -> int:
    """The seed of a round: below 2^31, different for every round."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:4], "big") >> 1
