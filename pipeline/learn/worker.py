"""One training worker: its steps, its augmentations, its checkpoints.

Which rows make a step and how each is augmented follows from (seed, epoch, step) alone. So the steps are the same for
any number of workers, and a run that was killed goes on from its last checkpoint to the same weights.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import ray.train.torch
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.config.sections import Model, Train
from pipeline.learn.rows import Pixels
from pipeline.learn.schedule import augmented, learning_rate, steps
from pipeline.model.network import normalise
from sisom.network.models import build_model, grow_head, load_weights, save_weights

# ------------------------------------------------------------------------------------------- pure planning


# ----------------------------------------------------------------------------------------------- one worker


@dataclass
class _Progress:
    """What a checkpoint holds beside tensors."""

    epoch: int = 0
    best: tuple[float, float, int] = (-1.0, math.inf, -1)  # accuracy, loss, epoch


def train_loop(settings: dict[str, Any]) -> None:
    """What each worker does, from the newest checkpoint to the last epoch; `settings` as `train.train` makes them."""
    model_config: Model = settings["model"]
    config: Train = settings["train"]
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(settings["threads"])
    device = ray.train.torch.get_device()
    data = Pixels.of(ray.get(settings["blocks"]), model_config.image_size)
    fit_rows = np.flatnonzero(~data.held_out)
    held_rows = np.flatnonzero(data.held_out)

    net = build_model(model_config.name, settings["num_classes"], seed=settings["seed"])
    if settings["start"] is not None:
        grow_head(net, settings["start"])
    optimizer = torch.optim.SGD(
        net.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay,
        nesterov=config.momentum > 0,
    )  # fmt: skip
    progress, best = _Progress(), save_weights(net)
    checkpoint = ray.train.get_checkpoint()
    record: dict[str, Any] = {}
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            progress, best, record = _resume(Path(folder), net, optimizer)
    parallel = ray.train.torch.prepare_model(net)
    _to(optimizer, device)

    per_epoch = max(len(list(steps(fit_rows, config.batch_size, world, 0, 0))), 1)
    first_epoch = progress.epoch
    for epoch in range(first_epoch, config.epochs):
        parallel.train()
        batches = steps(fit_rows, config.batch_size, world, settings["seed"], epoch)
        for number, batch in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(epoch * per_epoch + number, config.epochs * per_epoch, config.lr)
            key = (settings["seed"], epoch, number)
            # Augmented as one batch and then divided, so that the number of workers changes no pixel.
            pixels = augmented(data.take(batch), config.augment, key)[rank::world]
            targets = torch.from_numpy(data.targets[batch][rank::world]).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                logits = parallel(normalise(pixels.to(device), model_config))
            loss = F.cross_entropy(logits.float(), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        last = epoch + 1 == config.epochs
        if not last and (epoch + 1) % config.checkpoint_every:
            continue
        rows = held_rows if len(held_rows) else fit_rows
        accuracy, held_loss = _evaluate(net, data, rows, model_config, config.batch_size, device)
        # Without held-out rows nothing can tell epochs apart: the last one stays.
        if not len(held_rows) or (-accuracy, held_loss) <= (-progress.best[0], progress.best[1]):
            progress.best, best = (accuracy, held_loss, epoch), save_weights(net)
        progress.epoch = epoch + 1
        record = {
            "epochs": progress.epoch,
            "best_epoch": progress.best[2],
            "held_out_accuracy": progress.best[0] if len(held_rows) else None,
            "held_out_loss": progress.best[1] if len(held_rows) else None,
            "last_loss": held_loss,
            "rows": len(fit_rows),
            "resumed_from": first_epoch,
            "held_out": len(held_rows),
        }
        _report(rank, net, optimizer, progress, best, record)
    if (
        first_epoch == config.epochs
    ):  # an earlier start ended with its driver gone: what is said of it is of this one
        _report(rank, net, optimizer, progress, best, record | {"resumed_from": first_epoch})


def _report(
    rank: int,
    net: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: _Progress,
    best: bytes,
    record: Mapping[str, Any],
) -> None:
    """Hand a checkpoint to Ray Train: every worker reports, the first one saves."""
    with tempfile.TemporaryDirectory() as folder:
        saved = None
        if rank == 0:
            _save(Path(folder), net, optimizer, progress, best, record)
            saved = ray.train.Checkpoint.from_directory(folder)
        ray.train.report({"epoch": progress.epoch}, checkpoint=saved)


def _save(
    folder: Path,
    net: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: _Progress,
    best: bytes,
    record: Mapping[str, Any],
) -> None:
    (folder / "last.safetensors").write_bytes(save_weights(net))
    (folder / "best.safetensors").write_bytes(best)
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    state = {"epoch": progress.epoch, "best": list(progress.best)}
    (folder / "progress.json").write_text(json.dumps(state))
    (folder / "record.json").write_text(json.dumps(record))


def _resume(
    folder: Path, net: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[_Progress, bytes, dict[str, Any]]:
    load_weights(net, (folder / "last.safetensors").read_bytes())
    optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True))
    state = json.loads((folder / "progress.json").read_text())
    accuracy, loss, epoch = state["best"]
    progress = _Progress(state["epoch"], (accuracy, loss, epoch))
    record = json.loads((folder / "record.json").read_text())
    return progress, (folder / "best.safetensors").read_bytes(), record


def _to(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    for state in optimizer.state.values():
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                state[key] = value.to(device)


def _evaluate(
    net: torch.nn.Module,
    data: Pixels,
    rows: NDArray[np.int64],
    model: Model,
    batch_size: int,
    device: torch.device,
) -> tuple[float, float]:
    net.eval()
    right, loss = 0, 0.0
    with torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            logits = net(normalise(data.take(part).to(device), model)).float()
            targets = torch.from_numpy(data.targets[part]).to(device)
            right += int((logits.argmax(1) == targets).sum())
            loss += float(F.cross_entropy(logits, targets, reduction="sum"))
    return right / len(rows), loss / len(rows)
