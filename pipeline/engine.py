"""Ray: starting or joining a cluster, and what of it each kind of work takes."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

import ray

from pipeline.config import Config, Resources
from pipeline.errors import ConfigError


@dataclass(frozen=True)
class Cluster:
    """What the joined cluster offers, and how the work is laid on it."""

    cpus: int
    node_cpus: int  # of the smallest node that has any
    gpus: int
    device: str  # of scoring and training workers: "cpu" or "cuda"
    max_actors: int
    actor_cpus: float
    actor_gpus: float
    task_cpus: float


def start(config: Config) -> Cluster:
    """Join the cluster that RAY_ADDRESS names, as inside `ray job submit`; without one, start a local Ray.

    Raises:
        ConfigError: `resources.device: cuda` where the cluster has no GPU.
    """
    if not ray.is_initialized():
        _join(config)
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    nodes = [int(n["Resources"].get("CPU", 0)) for n in ray.nodes() if n["Alive"]]  # type: ignore[no-untyped-call]
    smallest = min((cpus for cpus in nodes if cpus), default=1)
    return lay_out(config.resources, int(total.get("CPU", 1)), int(total.get("GPU", 0)), smallest)


def _join(config: Config) -> None:
    if config.storage.endpoint:  # for the filesystems that Ray itself builds; never the credentials
        os.environ["AWS_ENDPOINT_URL"] = config.storage.endpoint
    if config.storage.region:
        os.environ["AWS_DEFAULT_REGION"] = config.storage.region
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")  # the command line has its own
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # Tune would take Ctrl-C for "that is enough trials", and the round would go on with half a search.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    _quiet()
    if "RAY_ADDRESS" in os.environ:
        passed = {n: os.environ[n] for n in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION") if n in os.environ}
        ray.init(runtime_env={"env_vars": passed} if passed else None, log_to_driver=False)
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


def _quiet() -> None:
    """Leave the terminal to our own words: the engine's chatter of normal work is below a warning."""
    for name in ("ray.data", "ray.train", "ray.tune", "ray._private.authentication", "optuna"):
        logging.getLogger(name).setLevel(logging.ERROR)


def lay_out(resources: Resources, cpus: int, gpus: int, node_cpus: int | None = None) -> Cluster:
    """Integers in, plan out: how many actors of which size leave room for the tasks that feed them.

    An actor pool that can take every CPU starves its own readers, for ever after a node loss. So actors get at
    most half of the CPUs on a CPU cluster, and on one or two CPUs everything takes fractions.
    """
    if resources.device == "cuda" and not gpus:
        raise ConfigError("resources.device: cuda, but the Ray cluster has no GPU; use auto or cpu")
    on_gpu = gpus > 0 and resources.device != "cpu"
    small = cpus <= 2
    room = gpus * int(1 / resources.gpu_share) if on_gpu else max(1, (cpus + 1) // 2)
    wanted = resources.actors or room
    return Cluster(
        cpus=cpus,
        node_cpus=cpus if node_cpus is None else node_cpus,
        gpus=gpus,
        device="cuda" if on_gpu else "cpu",
        max_actors=max(1, min(wanted, cpus - 1, room if on_gpu else cpus)),
        actor_cpus=0.5 if small else 1.0,
        actor_gpus=resources.gpu_share if on_gpu else 0.0,
        # A little less than an actor: Ray Data would run equal neighbours in one process, readers inside actors.
        task_cpus=0.45 if small else 0.9,
    )
