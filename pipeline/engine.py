"""Ray: starting or joining a cluster, and what of it each kind of work takes."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import ray

from pipeline.errors import ConfigError, StageFailed, SystemFault, ours
from pipeline.sections import Resources, Storage

# A job that has begun goes on to use so many times the nodes that were there: what it asks for readers is a number.
GROWTH: Final = 16


class Wishes(Protocol):
    """What a config, of a project or of a study, asks of Ray."""

    @property
    def resources(self) -> Resources:
        """What the work may take."""

    @property
    def storage(self) -> Storage:
        """The endpoint that Ray's own filesystems need too."""


@dataclass(frozen=True)
class Cluster:
    """What the joined cluster offers, and how the work is laid on it."""

    cpus: int
    node_cpus: int  # of the smallest node that has any
    gpus: int
    nodes: int  # that have CPUs
    node_memory: int  # bytes of the smallest one, beside its object store
    object_store: int  # bytes of the smallest one
    device: str  # of scoring and training workers: "cpu" or "cuda"
    full: int  # actors on the node that takes most of them
    min_actors: int
    max_actors: int  # on the nodes of now
    max_readers: int
    actor_cpus: float
    actor_gpus: float
    reader_cpus: float  # of a task that feeds actors
    task_cpus: float  # of any other


def start(config: Wishes) -> Cluster:
    """Join the cluster that RAY_ADDRESS names, as inside `ray job submit`; without one, start a local Ray.

    Raises:
        ConfigError: `resources.device: cuda` where the cluster has no GPU.
    """
    if not ray.is_initialized():
        _join(config)
    alive = [n["Resources"] for n in ray.nodes() if n["Alive"]]  # type: ignore[no-untyped-call]
    return lay_out(config.resources, [node for node in alive if node.get("CPU", 0) >= 1] or alive)


def storage_environment(storage: Storage) -> dict[str, str]:
    """The variables by which the filesystems that Ray itself builds learn of our storage; never the credentials.

    Without the two about checksums Arrow sends bodies of no stated length, which S3 takes and servers that are not
    Amazon's may refuse: Ceph's gateway does, with status 411.
    """
    wanted = {
        "AWS_ENDPOINT_URL": storage.endpoint or os.environ.get("AWS_ENDPOINT_URL"),
        "AWS_DEFAULT_REGION": storage.region or os.environ.get("AWS_DEFAULT_REGION"),
        "AWS_REQUEST_CHECKSUM_CALCULATION": os.environ.get(
            "AWS_REQUEST_CHECKSUM_CALCULATION", "when_required"
        ),
        "AWS_RESPONSE_CHECKSUM_VALIDATION": os.environ.get(
            "AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required"
        ),
    }
    return {name: value for name, value in wanted.items() if value}


def _join(config: Wishes) -> None:
    passed = storage_environment(config.storage)
    os.environ.update(passed)
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")  # the command line has its own
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # Tune would take Ctrl-C for "that is enough trials", and the round would go on with half a search.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    # Nobody reads Tune's own logs, and a Ctrl-C that meets its TensorBoard writer would hang the process at its end.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    _quiet()
    if "RAY_ADDRESS" in os.environ:
        try:
            _reach(os.environ["RAY_ADDRESS"])
            # What the job was submitted with reaches its workers anyway, and Ray takes no variable from both.
            job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")).get("runtime_env") or {}
            more = {n: value for n, value in passed.items() if n not in (job.get("env_vars") or {})}
            ray.init(runtime_env={"env_vars": more} if more else None, log_to_driver=False)
        except (ConnectionError, ValueError, OSError) as error:
            raise SystemFault(
                f"no Ray cluster answers at RAY_ADDRESS={os.environ['RAY_ADDRESS']!r} "
                f"({' '.join(str(error).split())[:200]}); see `ray status` there and try again, or unset RAY_ADDRESS "
                f"to work on this machine alone"
            ) from error
        return
    local = {
        "RAY_BACKEND_LOG_LEVEL": "fatal",
        # Each report of a training worker waits for the controller's next look: look often. Inherited by the
        # processes of this Ray and gone again from ours, since what Ray Train finds here it would hand to workers
        # as a runtime environment of their own, and so start new processes where warm ones wait.
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    }
    added = {name: value for name, value in local.items() if name not in os.environ}
    os.environ.update(added)
    try:
        # "local" on purpose: without an address Ray joins any cluster once recorded on this machine.
        ray.init(address="local", log_to_driver=False, logging_level=logging.WARNING, include_dashboard=False)
    finally:
        for name in added:
            del os.environ[name]


def _reach(address: str) -> None:
    """Ray itself would try for many minutes where nobody listens."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "://" not in address:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


@contextmanager
def working(stage: str) -> Iterator[None]:
    """Around work on the cluster: what Ray says of a dead worker or a lost node becomes our sentence.

    Raises:
        StageFailed: a worker died, or what it had made was lost, more often than Ray tries again.
        PipelineError: whatever of ours is behind an error that Ray has wrapped.
    """
    try:
        yield
    except ray.exceptions.RayError as error:
        if (behind := ours(error)) is not None:
            raise behind from error
        if isinstance(error, ray.exceptions.RayTaskError):  # a mistake of ours: its traceback tells more
            raise
        why = " ".join((str(error).strip() or type(error).__name__).split())[:200]
        failed = StageFailed(
            f"{stage}: a worker or a node was lost ({type(error).__name__}: {why}); run the same command again: "
            f"it goes on where it stopped; if this comes again, the nodes have too little memory (see `ray memory`)"
        )
        failed.stage = stage
        raise failed from error


def keep_secrets() -> None:
    """Before Ray Tune is used: it hands AWS credentials to trials as a runtime environment, which lands in Ray's logs.

    Trials find them as every other worker does.
    """
    from ray.tune.execution import class_cache

    passed = class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.ENV_VARS_TO_PROPAGATE = {name for name in passed if not name.startswith("AWS_")}


def deaths() -> int:
    """In a task: how many processes have died at it before. The number of attempts is the only trace of it."""
    worker: Any = ray._private.worker.global_worker
    return int(worker.core_worker.get_current_task_attempt_number())


def _quiet() -> None:
    """Leave the terminal to our own words: the engine's chatter of normal work is below a warning."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # our own sentence says what failed
    for name in ("ray.train", "ray.tune", "ray._private.authentication", "optuna"):
        logging.getLogger(name).setLevel(logging.ERROR)


def lay_out(resources: Resources, nodes: Sequence[Mapping[str, float]]) -> Cluster:
    """Nodes' resources in, plan out: how many actors of which size leave room for the tasks that feed them.

    An actor pool that can take every CPU starves its own readers, for ever after a node loss. So an actor takes
    a little less than a CPU, or than its share of the CPUs beside a GPU: a node full of actors has room for
    a reader left, whatever becomes of the other nodes.
    """
    sizes = [max(1, int(node.get("CPU", 1))) for node in nodes]
    cpus, least, most = sum(sizes), min(sizes), max(sizes)
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if resources.device == "cuda" and not gpus:
        raise ConfigError("resources.device: cuda, but the Ray cluster has no GPU; use auto or cpu")
    on_gpu = gpus > 0 and resources.device != "cpu"
    share = int(1 / resources.gpu_share)  # actors of a GPU
    room = gpus * share if on_gpu else cpus
    actors = max(1, min(resources.actors or room, room))
    small = least <= 2
    readers = cpus if on_gpu else max(1, cpus // 2)
    if on_gpu:
        full = [
            (size, int(n["GPU"]) * share)
            for n, size in zip(nodes, sizes, strict=True)
            if n.get("GPU", 0) >= 1
        ]
        room_left = all(count + 0.9 <= size for size, count in full)
        tight = min((size - 0.5) / count for size, count in full)
        actor_cpus, reader_cpus = (1.0, 0.9) if room_left else (tight, 0.45)
    else:  # on each node, as many actors as CPUs leave room for the readers
        # All the readers that a grown job may have fit into that room: memory bounds those of a node, not this.
        a_node = -(-readers // len(nodes)) + 1
        actor_cpus, reader_cpus = (most - 0.4) / most, 0.4 * least / most / (GROWTH * a_node)
    return Cluster(
        cpus=cpus,
        node_cpus=least,
        gpus=gpus,
        nodes=len(nodes),
        node_memory=int(min(node.get("memory", 0) for node in nodes)),
        object_store=int(min(node.get("object_store_memory", 0) for node in nodes)),
        device="cuda" if on_gpu else "cpu",
        full=max(int(node.get("GPU", 0)) for node in nodes) * share if on_gpu else most,
        min_actors=min(resources.min_actors, actors),
        max_actors=actors,
        max_readers=readers,
        actor_cpus=round(actor_cpus, 4),
        actor_gpus=resources.gpu_share if on_gpu else 0.0,
        reader_cpus=max(0.0001, round(reader_cpus, 4)),
        task_cpus=0.45 if small else 0.9,
    )
