"""The plan of a round: the frozen inputs that decide its results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pipeline.workspace import keys
from pipeline.workspace.records import Value, VersionedRecord


class Loss(Value):
    """The tables and tars that can't be read in full, in numbers.

    `bytes` are their sizes together, `rows` the images that are known to be lost with them.
    """

    files: int = 0
    bytes: int = 0
    rows: int = 0

    def told(self) -> str:
        """Return the loss in words."""
        rows = f", {self.rows:,} images at least" if self.rows else ""
        return f"{self.files} tables or tars that can't be read in full ({self.bytes:,} bytes{rows})"


class PlannedPool(Value):
    """The listing of the pool in numbers.

    `changes` counts new, changed and vanished objects since the round before, `left` what rules left out, by kind.
    """

    shards: int = 0
    rows: int = 0
    other: int = 0
    duplicates: int = 0
    changes: Mapping[str, int] | None = None
    left: Mapping[str, int] = {}
    unreadable: Loss | None = None
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
