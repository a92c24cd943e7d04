"""Fixtures that tests of the pipeline share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import sisom
from pipeline.model.extractor import Extractor
from pipeline.model.network import Network
from sisom.network.models import build_model, save_weights
from tests.support.scorer_setup import BATCH, BROKEN, IMAGES, MODEL, TAXONOMY, Setup, batches, noise, png
from tests.support.scoring_lab import Lab


@pytest.fixture(scope="module")
def threads() -> Iterator[None]:
    kept = torch.get_num_threads()
    yield
    torch.set_num_threads(kept)


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    torch.set_num_threads(1)
    net = build_model(MODEL.name, len(TAXONOMY), seed=3)
    network = Network(MODEL, len(TAXONOMY), np.frombuffer(save_weights(net), np.uint8))
    features = Extractor(network, "cpu", BATCH)(noise(12, 2))
    bank = sisom.fit_bank(features, torch.arange(12) % 3, slopes=10.0, num_classes=3)
    folder = tmp_path_factory.mktemp("pool")
    images = [BROKEN.get(i, png(image)) for i, image in enumerate(IMAGES)]
    table = pa.table({"id": [f"i{n:02d}" for n in range(21)], "image": images})
    pq.write_table(table, folder / "p.parquet", row_group_size=12)
    return Setup(network, bank, batches(folder, tmp_path_factory.mktemp("workspace")))


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.build(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Layers this small are only slowed down by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
