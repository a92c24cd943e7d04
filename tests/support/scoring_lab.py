"""A small network, bank and pool, to score with the engine and look at what it leaves."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

import sisom
from pipeline.cluster import joining as engine
from pipeline.config.project import Config
from pipeline.config.sections import Storage
from pipeline.model.detector import FittedDetector
from pipeline.model.extractor import Extractor
from pipeline.model.network import Network
from pipeline.pool.listing import freeze
from pipeline.score.broadcast import BankFile, Models
from pipeline.score.job import Job, prepare
from pipeline.store.opening import open_store
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from sisom.network.models import build_model, save_weights

SIZE = 16
TAXONOMY = ["cat", "dog", "cow"]
MODEL = {"name": "resnet10_w16", "image_size": SIZE, "layers": ["layer2", "avgpool"]}


def image(seed: int) -> bytes:
    """A PNG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def small_pool(folder: Path, rows: int = 300, group: int = 40) -> Path:
    """One Parquet file of noise images `i0000`, `i0001`, ..."""
    table = pa.table({"id": [f"i{n:04d}" for n in range(rows)], "image": [image(n) for n in range(rows)]})
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "pool.parquet", row_group_size=group)
    return folder


def config_of(pool: str | Path, *, quarantined: float = 1.0, **changes: Any) -> Config:
    """A config that scores a pool; `changes` replace whole sections."""
    plain: dict[str, Any] = {
        "workspace": "unused",
        "taxonomy": TAXONOMY,
        "pool": {"uri": str(pool), "images_per_shard": 50, "max_unreadable_files": None},
        "oracle": {"kind": "simulated", "truth": "unused"},
        "model": MODEL,
        "scoring": {"batch_size": 16, "max_quarantined": quarantined, "max_pixels": 1_000_000},
    }
    return Config.model_validate_json(json.dumps(plain | changes))


@dataclass(frozen=True)
class Lab:
    """A network and a bank to score pools with."""

    network: Network
    bank: sisom.FeatureBank
    file: BankFile

    @classmethod
    def build(cls, folder: Path) -> Lab:
        """An untrained network and a bank of noise; the bank's file lies in `folder`."""
        net = build_model("resnet10_w16", len(TAXONOMY), seed=0)
        model = config_of("unused").model
        network = Network(model, len(TAXONOMY), np.frombuffer(save_weights(net), np.uint8))
        pixels = np.random.default_rng(5).integers(0, 256, (30, 3, SIZE, SIZE), np.uint8)
        features = Extractor(network, "cpu", 32)(pixels)
        found = sisom.fit_bank(features, torch.arange(30) % 3, slopes=10.0, num_classes=3)
        bank = replace(found, threshold=0.0)
        place = Workspace(open_store(str(folder), Storage()))
        place.store.put("bank.safetensors", bank.to_bytes())
        return cls(network, bank, BankFile(place, "bank.safetensors", place.digest("bank.safetensors")))

    def job(
        self,
        config: Config,
        out: Path,
        detector: FittedDetector | None = None,
        members: Sequence[Network] = (),
        **changes: Any,
    ) -> Job:
        """List the pool of a config below `out` and prepare its scoring; `changes` are of the cluster."""
        workspace = Workspace(open_store(str(out), Storage()))
        cluster = replace(engine.start(config), **changes)
        listing = freeze(Folder(workspace), config, cluster=cluster)
        models = Models(self.network, self.bank, self.file, detector, members)
        return prepare(listing.snapshot, models, config, cluster=cluster)


def outcome(job: Job) -> tuple[pa.Table, pa.Table]:
    """The score rows and the quarantined rows that a finished job left, in stored order."""
    tables = []
    for folder in ("scores/", "quarantine/"):
        found = list(job.folder.workspace.tables(folder))
        tables.append(pa.concat_tables(found) if found else pa.table({"id": pa.array([], pa.string())}))
    return tables[0], tables[1]


def files(job: Job) -> dict[str, bytes]:
    """The bytes of all that a finished job left."""
    keys = [*job.folder.workspace.keys("scores/"), *job.folder.workspace.keys("quarantine/")]
    return {key: job.folder.workspace.store.get(key) for key in keys}
