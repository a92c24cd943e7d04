"""Names of trainings and searches, by which a later start goes on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attempt:
    """A training or a search: its name, its place and its seed.

    storage_path  folder of Ray's files, a path or `s3://` URI
    name          of the run below it; a run of the same name goes on where it stopped
    seed          of weights, order and augmentation, or of a search's proposals
    """

    storage_path: str
    name: str
    seed: int
