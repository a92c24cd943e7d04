"""A training worker: its share of each step, and its checkpoints.

A step depends on (seed, epoch, step) alone (`learn/epoch.py`). So the steps are the same for any number of workers, and
a run that was killed goes on from its last checkpoint to the same weights.
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import ray.train.torch
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.config.sections import Model
from pipeline.config.training import Train
from pipeline.learn.epoch import Course, Examples, train_epoch
from pipeline.learn.recipe.averaging import Average
from pipeline.learn.recipe.optimizer import optimizer_for
from pipeline.learn.recipe.values import Recipe, class_weights
from pipeline.learn.rows import Pixels
from pipeline.model.network import normalise
from pipeline.model.weights import Start, new_network
from sisom.network.models import load_weights, save_weights


@dataclass(frozen=True)
class TrainingTask:
    """Inputs of each worker of a training."""

    blocks: tuple[Any, ...]  # ObjectRefs of `DECODED` tables
    start: Start | None
    model: Model
    train: Train
    taxonomy: tuple[str, ...]
    seed: int
    threads: int


@dataclass
class _Training:
    """State of a training after some epochs, the content of a checkpoint."""

    net: torch.nn.Module
    optimizer: torch.optim.Optimizer
    best_weights: bytes
    average: Average | None = None
    epoch: int = 0
    best: tuple[float, float, int] = (-1.0, math.inf, -1)  # accuracy, loss, epoch
    record: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        (folder / "last.safetensors").write_bytes(save_weights(self.net))
        (folder / "best.safetensors").write_bytes(self.best_weights)
        if self.average is not None:
            (folder / "average.safetensors").write_bytes(save_weights(self.average.net))
        torch.save(self.optimizer.state_dict(), folder / "optimizer.pt")
        state = {"epoch": self.epoch, "best": list(self.best)}
        (folder / "progress.json").write_text(json.dumps(state))
        (folder / "record.json").write_text(json.dumps(self.record))

    def load(self, folder: Path) -> None:
        """Restore the state from a checkpoint."""
        load_weights(self.net, (folder / "last.safetensors").read_bytes())
        if self.average is not None:
            load_weights(self.average.net, (folder / "average.safetensors").read_bytes())
        self.optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True))
        state = json.loads((folder / "progress.json").read_text())
        accuracy, loss, epoch = state["best"]
        self.epoch, self.best = state["epoch"], (accuracy, loss, epoch)
        self.best_weights = (folder / "best.safetensors").read_bytes()
        self.record = json.loads((folder / "record.json").read_text())

    @property
    def judged(self) -> torch.nn.Module:
        """The network that is judged and kept: the average, if any."""
        return self.net if self.average is None else self.average.net

    def waited(self, patience: int | None) -> bool:
        """Return whether the best epoch lies `patience` epochs back."""
        return patience is not None and self.epoch > 0 and self.epoch - 1 - self.best[2] >= patience

    def report(self, rank: int) -> None:
        """Hand a checkpoint to Ray Train; only the first worker saves."""
        with tempfile.TemporaryDirectory() as folder:
            saved = None
            if rank == 0:
                self.save(Path(folder))
                saved = ray.train.Checkpoint.from_directory(folder)
            ray.train.report({"epoch": self.epoch}, checkpoint=saved)


def train_loop(settings: dict[str, Any]) -> None:
    """Train from the newest checkpoint to the last epoch.

    Ray Train hands over a dict; its one entry, `task`, refers to a `TrainingTask`.
    """
    task: TrainingTask = ray.get(settings["task"])
    config = task.train
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(task.threads)
    device = ray.train.torch.get_device()
    data = Pixels.of(ray.get(list(task.blocks)), task.model.image_size)
    fit_rows = np.flatnonzero(~data.held_out)
    held_rows = np.flatnonzero(data.held_out)
    recipe = Recipe.of_round(config, class_weights(config, data.targets[fit_rows], task.taxonomy))
    course = Course(
        data, fit_rows, task.model, recipe, task.seed,
        workers=world, rank=rank, precision=config.precision,
    )  # fmt: skip

    net = new_network(task.model, len(task.taxonomy), seed=task.seed, start=task.start)
    average = None if config.average is None else Average(net, config.average)
    training = _Training(net, optimizer_for(net, recipe), save_weights(net), average)
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            training.load(Path(folder))
    parallel = ray.train.torch.prepare_model(net)
    _to(training.optimizer, device)
    judged = training.judged.to(device)

    first_epoch = training.epoch
    patience = config.patience if len(held_rows) else None
    for epoch in range(first_epoch, config.epochs):
        if training.waited(patience):
            break
        train_epoch(parallel, training.optimizer, course, epoch=epoch, average=average)
        last = epoch + 1 == config.epochs
        if not last and (epoch + 1) % config.checkpoint_every:
            continue
        rows = held_rows if len(held_rows) else fit_rows
        accuracy, held_loss = _evaluate(judged, data, rows, model=task.model, batch_size=config.batch_size)
        if patience is not None and world > 1:
            accuracy, held_loss = _of_first_worker(accuracy, held_loss, device)
        # Without held-out rows nothing tells epochs apart, so the last one stays.
        if not len(held_rows) or (-accuracy, held_loss) <= (-training.best[0], training.best[1]):
            training.best, training.best_weights = (accuracy, held_loss, epoch), save_weights(judged)
        training.epoch = epoch + 1
        training.record = {
            "epochs": training.epoch,
            "best_epoch": training.best[2],
            "held_out_accuracy": training.best[0] if len(held_rows) else None,
            "held_out_loss": training.best[1] if len(held_rows) else None,
            "last_loss": held_loss,
            "rows": len(fit_rows),
            "resumed_from": first_epoch,
            "held_out": len(held_rows),
        }
        training.report(rank)
    if training.epoch == first_epoch:
        # An earlier start completed the training, then its driver died: report it again as this start's.
        training.record = training.record | {"resumed_from": first_epoch}
        training.report(rank)


def _to(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    for state in optimizer.state.values():
        for key, value in state.items():
            if isinstance(value, torch.Tensor) and key != "step":  # AdamW counts on the CPU
                state[key] = value.to(device)


def _of_first_worker(accuracy: float, loss: float, device: torch.device) -> tuple[float, float]:
    """Return what the first worker found.

    Running means differ a little between workers, and all have to stop at the same epoch.
    """
    found = torch.tensor([accuracy, loss], dtype=torch.float64, device=device)
    torch.distributed.broadcast(found, src=0)
    accuracy, loss = found.tolist()
    return accuracy, loss


def _evaluate(
    net: torch.nn.Module, examples: Examples, rows: NDArray[np.int64], *, model: Model, batch_size: int
) -> tuple[float, float]:
    """Return accuracy and mean loss over rows."""
    net.eval()
    device = next(net.parameters()).device
    right, loss = 0, 0.0
    with torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            logits = net(normalise(examples.take(part).to(device), model)).float()
            targets = torch.from_numpy(examples.targets[part]).to(device)
            right += int((logits.argmax(1) == targets).sum())
            loss += float(F.cross_entropy(logits, targets, reduction="sum"))
    return right / len(rows), loss / len(rows)
