"""The plan of a round: the frozen inputs that decide its results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from pipeline.workspace import keys
from pipeline.workspace.records import Value, VersionedRecord


class PlannedPool(Value):
    """The listing of the pool in numbers.

    `skipped` counts what was left out by rule, by kind; `unreadable_files` are those that can't be read to their end.
    `changes` counts new, changed and vanished objects since the round before.
    """

    shards: int = 0
    rows: int = 0
    other: int = 0
    skipped: Mapping[str, int] = Field(default_factory=dict)
    unreadable_files: int = 0
    duplicates: int = 0
    changes: Mapping[str, int] | None = None
    digest: str = ""


class PlannedScoring(Value):
    """Device and threads of scoring, which may change a score's last bit."""

    device: str = "cpu"
    threads: int = 1


class Plan(VersionedRecord):
    """The frozen inputs of a round.

    Attributes:
        index: of the round.
        seed: of all that the round draws.
        config: all of the config that decides results, as JSON; keys that it lacks are younger than the plan.
        config_digest: of the config.
        taxonomy: the classes that the round knows, in head order.
        labels: keys of the label files that it learns from.
        label_digests: SHA-256 of each of them.
        labels_without_image: labeled ids that the pool does not have.
        sets: digests of the listings of labeled sets, by their URIs.
        query_size: the most images that it may ask about.
        pool: the listing in numbers.
        threads: of each training worker on a CPU.
        scoring: where the pool is scored.
    """

    name: ClassVar[str] = keys.PLAN

    index: int = 0
    seed: int = 0
    config: Mapping[str, Any] = {}
    config_digest: str = ""
    taxonomy: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    label_digests: Mapping[str, str] = {}
    labels_without_image: int = 0
    sets: Mapping[str, str] = {}
    query_size: int = 0
    pool: PlannedPool = PlannedPool()
    threads: int = 1
    scoring: PlannedScoring = PlannedScoring()
