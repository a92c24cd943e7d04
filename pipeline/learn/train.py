"""Training of a round's classifier with Ray Train.

Every worker sees the labeled rows as shared blocks in the object store and runs `worker.train_loop` on them. A run goes
on from its last checkpoint whatever has died: a worker, the actor that watches over the workers, or the driver.
"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchConfig
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.placement_group import PlacementGroup

from pipeline.cluster.layout import Cluster
from pipeline.config.project import Config
from pipeline.errors import ArtefactMissing, ConfigError, StageFailed
from pipeline.learn.attempt import Attempt
from pipeline.learn.rows import LabeledSet
from pipeline.learn.worker import TrainingTask, train_loop
from pipeline.model.weights import Start
from pipeline.store.opening import Store, open_store

# Where Ray Train notes the checkpoints of a run that it may go on from.
NOTES = "checkpoint_manager_snapshot.json"


@dataclass(frozen=True)
class Trained:
    """A trained network: safetensors weights and a record of the training.

    `record` has best_epoch, epochs, held_out, held_out_accuracy, held_out_loss, resumed_from and rows.
    """

    weights: bytes
    record: Mapping[str, Any]

    @property
    def images(self) -> int:
        """The number of images this attempt trained on, repeats counted.

        Epochs that an earlier attempt had finished do not count.
        """
        count: int = self.record["rows"] * (self.record["epochs"] - self.record["resumed_from"])
        return count


def train(
    labeled: LabeledSet,
    config: Config,
    cluster: Cluster,
    *,
    attempt: Attempt,
    start: Start | None,
    threads: int,
) -> Trained:
    """Train on the labeled rows; keep the best epoch.

    The best epoch has the highest accuracy on the held-out rows, among equals the lowest loss. Without held-out rows
    the last epoch stays.

    Args:
        labeled: the decoded rows.
        config: the run's config.
        cluster: where it runs.
        attempt: name, place and seed of the run.
        start: weights to start from, or None for a fresh start.
        threads: of each worker on a CPU; results are equal to the bit only for the same number.

    Raises:
        StageFailed: training failed after `train.retries` restarts, or diverged.
        ConfigError: the cluster has too few CPUs or GPUs for `train.num_workers`.
    """
    workers = config.train.num_workers
    cpus = min(threads, cluster.node_cpus)  # a round planned on a larger machine goes on here, more slowly
    if workers * cpus > cluster.cpus:
        raise ConfigError(
            f"train.num_workers: {workers} workers with {cpus} CPUs each, but the Ray cluster has {cluster.cpus}"
        )
    if workers * cpus > cluster.cpus - 1:  # the workers will hold every CPU that reading needs
        ray.wait(list(labeled.blocks), num_returns=len(labeled.blocks))
    task = TrainingTask(
        blocks=labeled.blocks,
        start=start,
        model=config.model,
        train=config.train,
        taxonomy=config.taxonomy,
        seed=attempt.seed,
        threads=threads,
    )
    gpu = cluster.device == "cuda"
    if gpu and cluster.gpus < workers:
        raise ConfigError(
            f"train.num_workers: {workers} workers, but the Ray cluster has {cluster.gpus} GPUs"
        )
    trainer = _Trainer(
        train_loop,
        train_loop_config={"task": ray.put(task)},  # the controller holds settings too, and needs none of it
        # A single worker on a CPU needs no process group, and its controller no torch, which takes seconds to load.
        backend_config=TorchConfig(backend="nccl" if gpu else "gloo") if gpu or workers > 1 else None,
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=gpu,
            resources_per_worker={"CPU": cpus} | ({"GPU": 1} if gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            name=attempt.name,
            storage_path=attempt.storage_path,
            failure_config=ray.train.FailureConfig(max_failures=config.train.retries),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
        ),
    )
    try:
        with _our_interrupt():
            run = open_store(f"{attempt.storage_path}/{attempt.name}", config.storage)
            result = _fit(trainer, config.train.retries, run)
    except (ray.train.TrainingFailedError, ray.exceptions.RayActorError) as error:
        last = str(error).strip().splitlines()[-1]
        raise _failed(f"training failed after {config.train.retries} retries: {last}") from error
    assert result.checkpoint is not None  # the last epoch always leaves one
    with result.checkpoint.as_directory() as folder:
        record = json.loads(Path(folder, "record.json").read_text())
        if not math.isfinite(record.pop("last_loss")):
            raise _failed(
                f"training diverged: the loss is no number any more; lower train.lr "
                f"({config.train.lr:g}) and run again"
            )
        return Trained(Path(folder, "best.safetensors").read_bytes(), record)


class _Trainer(DataParallelTrainer):
    """Ray Train's trainer without the helpers that have nothing to do here.

    One splits datasets among workers, in a process of its own; our workers find their rows by reference. One asks the
    dashboard, which a Ray that we start lacks, and would wait 12 seconds for it at the end of every training. Its
    purpose is to free what a dead training has reserved; here the end of the driver does that, or `_free_reserved`.
    """

    def _create_default_callbacks(self) -> list[Any]:
        idle: tuple[type, ...] = (DatasetsCallback,)
        if "RAY_ADDRESS" not in os.environ:
            idle += (PlacementGroupCleanerCallback,)
        return [one for one in super()._create_default_callbacks() if not isinstance(one, idle)]


def _fit(trainer: DataParallelTrainer, retries: int, run: Store) -> ray.train.Result:
    """Train, and start again when Ray Train's controller dies.

    Ray Train restarts workers, but nothing restarts the actor that watches over them.
    """
    for _ in range(retries):
        forget_torn(run)
        with suppress(ray.exceptions.RayActorError):
            return trainer.fit()
        _free_reserved()
    forget_torn(run)
    return trainer.fit()


def _free_reserved() -> None:
    """Free the CPUs that a dead run of this job has reserved.

    Ray Train's own way to do so needs the dashboard.
    """
    job = ray.get_runtime_context().get_job_id()
    for name, found in ray.util.placement_group_table().items():
        if name.endswith(job) and found["state"] != "REMOVED":  # such an id ends in that of its job
            group = PlacementGroup(ray.PlacementGroupID.from_hex(name))
            ray.util.remove_placement_group(group)


def forget_torn(run: Store) -> None:
    """Remove Ray Train's notes on a run if they are torn.

    Training then begins anew. The notes are overwritten in place: a process that is killed in between leaves a file
    that would stop every later start. The checkpoints alone cannot be trusted, since a torn one looks like a whole one.
    """
    try:
        json.loads(run.get(NOTES))
    except ArtefactMissing:
        return
    except ValueError:
        run.delete(NOTES)


def _failed(text: str) -> StageFailed:
    failed = StageFailed(text)
    failed.stage = "train"
    return failed


@contextmanager
def _our_interrupt() -> Iterator[None]:
    """Restore our handler of Ctrl-C after Ray Train.

    Ray Train takes over Ctrl-C, exits with success on it, and never restores the handler. Its exit is raised as
    `KeyboardInterrupt`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, ours)
