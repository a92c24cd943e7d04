"""A network, a bank and the batches of a small pool."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

import sisom
from pipeline.config.sections import Model, Pool
from pipeline.model.network import Network
from pipeline.pool.reading import ReadShards
from pipeline.score.scorer import Scorer, ScoringOptions
from pipeline.store.opening import LocalStore
from pipeline.workspace.artefacts import Workspace
from tests.support.pools import reading, snapshot_of

MODEL = Model(name="resnet10_w16", image_size=8, layers=("layer2", "avgpool"))


TAXONOMY = ("cat", "dog", "cow")


BATCH = 4


@dataclass(frozen=True)
class Setup:
    """A network, a bank, and the batches of a pool of 21 rows in two shards, four of them broken."""

    network: Network
    bank: sisom.FeatureBank
    batches: list[pa.Table]

    def scorer(self, score: str = "sisome", **changes: Any) -> Scorer:
        bank = replace(self.bank, **changes)
        return Scorer(self.network, bank, ScoringOptions(TAXONOMY, score, BATCH, "cpu", 1))


def noise(n: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 8, 8), np.uint8)


def png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(sink, "PNG")
    return sink.getvalue()


IMAGES = noise(21, 1)


BROKEN = {1: b"", 12: b"text", 13: b"text", 20: b"\x89PNG"}


def batches(pool: Path, workspace: Path) -> list[pa.Table]:
    found = snapshot_of(Pool(uri=str(pool)), Workspace(LocalStore(str(workspace))))
    read = ReadShards(found.folder, reading(Pool(uri=str(pool))), MODEL.transform(1000), BATCH)
    return list(read(found.table))
