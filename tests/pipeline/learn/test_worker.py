"""A worker's checkpoints: the same bytes after going on from any of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch

from pipeline.cluster.layout import Cluster
from pipeline.config.project import Config
from pipeline.config.sections import Model
from pipeline.config.training import Augment, Train
from pipeline.learn import train
from pipeline.learn.attempt import Attempt
from pipeline.learn.epoch import Course, ExamplesInMemory, train_epoch
from pipeline.learn.recipe.averaging import Average
from pipeline.learn.recipe.optimizer import optimizer_for
from pipeline.learn.recipe.values import Recipe
from pipeline.learn.rows import LabeledSet
from pipeline.learn.worker import _Training
from pipeline.model.weights import new_network
from pipeline.pool.reading import BROKEN, DECODED
from sisom.network.models import save_weights

MODEL = Model(name="resnet10_w16", image_size=8)
EPOCHS = 3


def course(optimizer: str) -> Course:
    rng = np.random.default_rng(0)
    options = Train(
        epochs=EPOCHS, batch_size=8, lr=0.01, optimizer=optimizer, layer_decay=0.8, frozen_epochs=1, accumulate=2,
        augment=Augment(mixup=0.5),
    )  # fmt: skip
    examples = ExamplesInMemory(rng.integers(0, 255, (16, 3, 8, 8)).astype(np.uint8), np.arange(16) % 3)
    return Course(examples, np.arange(16), MODEL, Recipe.of_round(options), seed=11)


def begun(told: Course) -> _Training:
    net = new_network(MODEL, 3, seed=2)
    return _Training(net, optimizer_for(net, told.recipe), save_weights(net), Average(net, 0.9))


def train_one(training: _Training, told: Course) -> None:
    train_epoch(training.net, training.optimizer, told, epoch=training.epoch, average=training.average)
    training.epoch += 1


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_training_goes_on_from_any_checkpoint_to_the_same_bytes(optimizer: str, tmp_path: Path) -> None:
    told = course(optimizer)
    whole = begun(told)
    for epoch in range(EPOCHS):
        folder = tmp_path / str(epoch)
        folder.mkdir()
        whole.save(folder)
        train_one(whole, told)
    for epoch in range(EPOCHS):
        again = begun(told)
        again.load(tmp_path / str(epoch))
        while again.epoch < EPOCHS:
            train_one(again, told)
        assert save_weights(again.net) == save_weights(whole.net)
        assert again.average is not None
        assert whole.average is not None
        assert save_weights(again.average.net) == save_weights(whole.average.net)


def test_the_average_is_judged_and_kept_in_place_of_the_weights() -> None:
    net = torch.nn.Linear(1, 1)
    training = _Training(net, torch.optim.SGD(net.parameters()), b"")
    assert training.judged is net
    training.average = Average(net, 0.9)
    assert training.judged is training.average.net


def test_patience_counts_the_epochs_since_the_best() -> None:
    net = torch.nn.Linear(1, 1)
    training = _Training(net, torch.optim.SGD(net.parameters()), b"", epoch=7, best=(0.5, 1.0, 3))
    assert training.waited(3)  # epochs 4, 5 and 6 were no better
    assert not training.waited(4)
    assert not training.waited(None)
    assert not _Training(net, torch.optim.SGD(net.parameters()), b"").waited(1)


@pytest.mark.slow
@pytest.mark.ray
def test_two_workers_stop_early_together_and_stay_stopped(
    cluster: Cluster, tmp_path: Path, make_config: Callable[..., Config]
) -> None:
    config = make_config(
        model={"name": "resnet10_w16", "layers": ["avgpool"], "image_size": 8},
        train={
            "epochs": 40, "batch_size": 8, "lr": 0.01, "optimizer": "adamw", "num_workers": 2, "checkpoint_every": 1,
            "accumulate": 2, "frozen_epochs": 1, "average": 0.9, "patience": 3, "class_weights": "balanced",
            "augment": {"mixup": 1.0},
        },
    )  # fmt: skip
    rng = np.random.default_rng(0)
    rows = [
        {"id": f"{n:02d}", "target": n % 2, "held_out": n % 4 < 2, "pixels": rng.bytes(3 * 8 * 8)}
        for n in range(48)
    ]
    blocks = (ray.put(pa.Table.from_pylist(rows, schema=DECODED)),)
    decoded = LabeledSet(blocks, (ray.put(BROKEN.empty_table()),), len(rows))

    def trained() -> train.Trained:
        return train.train(
            decoded, config, cluster, attempt=Attempt(str(tmp_path), "t", 0), start=None, threads=1
        )

    first, again = trained(), trained()
    epochs = first.record["epochs"]
    assert epochs < 40
    assert epochs - 1 - first.record["best_epoch"] == 3
    assert again.weights == first.weights
    assert again.record == first.record | {"resumed_from": epochs}
