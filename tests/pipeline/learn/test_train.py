"""Training that starts again: torn notes, and a run that was complete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray

from pipeline.cluster.layout import Cluster
from pipeline.config.project import Config
from pipeline.learn import train
from pipeline.learn.attempt import Attempt
from pipeline.learn.rows import LabeledSet
from pipeline.learn.train import NOTES, forget_torn
from pipeline.pool.reading import BROKEN, DECODED
from pipeline.store.opening import LocalStore

MakeConfig = Callable[..., Config]


@pytest.mark.parametrize("torn", [b"", b'{"ray_version": "2.6', b"\xff"])
def test_torn_notes_on_a_training_are_forgotten_and_whole_ones_kept(tmp_path: Path, torn: bytes) -> None:
    run = LocalStore(str(tmp_path))
    forget_torn(run)
    run.put(NOTES, b'{"checkpoint_results": []}')
    forget_torn(run)
    assert run.exists(NOTES)
    run.put(NOTES, torn)
    forget_torn(run)
    assert not run.exists(NOTES)


@pytest.mark.ray
def test_training_that_was_over_says_so_and_gives_the_same_weights(
    cluster: Cluster, tmp_path: Path, make_config: MakeConfig
) -> None:
    """The workers of a killed driver live long enough to end what they do."""
    config = make_config(
        model={"name": "resnet10_w16", "layers": ["avgpool"], "image_size": 8},
        train={"epochs": 2, "batch_size": 8},
    )
    rng = np.random.default_rng(0)
    rows = [
        {"id": f"{n}", "target": n % 2, "held_out": False, "pixels": rng.bytes(3 * 8 * 8)} for n in range(16)
    ]
    blocks = (ray.put(pa.Table.from_pylist(rows, schema=DECODED)),)
    decoded = LabeledSet(blocks, (ray.put(BROKEN.empty_table()),), len(rows))

    def trained() -> train.Trained:
        return train.train(
            decoded, config, cluster, attempt=Attempt(str(tmp_path), "t", 0), start=None, threads=1
        )

    first, second = trained(), trained()
    assert first.weights == second.weights
    assert first.record["resumed_from"] == 0
    assert second.record == first.record | {"resumed_from": 2}
