"""What names a training or a search to Ray, so that a later start goes on with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attempt:
    """Frozen inputs by name, where Ray keeps what it made of them, and the seed of what is random.

    storage_path  folder of Ray's files, a path or `s3://` URI
    name          of the run below it; a run of the same name goes on where it stopped
    seed          of weights, order and augmentation, or of a search's proposals
    """

    storage_path: str
    name: str
    seed: int
