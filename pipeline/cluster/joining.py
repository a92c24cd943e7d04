"""Joining a Ray cluster, or starting one on this machine."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
from typing import Protocol

import ray

from pipeline.cluster.layout import Cluster, lay_out
from pipeline.config.sections import Access, Resources, Storage
from pipeline.errors import SystemFault


class Wishes(Protocol):
    """The sections of a project's or study's config that Ray needs."""

    @property
    def workspace(self) -> str:
        """The place that Ray's own filesystems write to."""

    @property
    def resources(self) -> Resources:
        """The limits of the work."""

    @property
    def storage(self) -> Storage:
        """The endpoints, of which Ray's own filesystems need the workspace's."""


def start(config: Wishes) -> Cluster:
    """Join the cluster that RAY_ADDRESS names, or start a local one.

    `ray job submit` sets RAY_ADDRESS for its jobs.

    Raises:
        ConfigError: `resources.device: cuda` where the cluster has no GPU.
    """
    if not ray.is_initialized():
        _join(config)
    alive = [n["Resources"] for n in ray.nodes() if n["Alive"]]  # type: ignore[no-untyped-call]
    return lay_out(config.resources, [node for node in alive if node.get("CPU", 0) >= 1] or alive)


def storage_environment(access: Access) -> dict[str, str]:
    """Return the environment variables that configure Ray's own filesystems.

    Credentials are never among them.

    Without the two about checksums Arrow sends bodies of no stated length, which S3 takes and servers that are not
    Amazon's may refuse: Ceph's gateway does, with status 411.
    """
    wanted = {
        "AWS_ENDPOINT_URL": access.endpoint or os.environ.get("AWS_ENDPOINT_URL"),
        "AWS_DEFAULT_REGION": access.region or os.environ.get("AWS_DEFAULT_REGION"),
        "AWS_REQUEST_CHECKSUM_CALCULATION": os.environ.get(
            "AWS_REQUEST_CHECKSUM_CALCULATION", "when_required"
        ),
        "AWS_RESPONSE_CHECKSUM_VALIDATION": os.environ.get(
            "AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required"
        ),
    }
    return {name: value for name, value in wanted.items() if value}


def _join(config: Wishes) -> None:
    passed = storage_environment(config.storage.of(config.workspace))
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
        # Nobody takes this machine away from a training with a notice.
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        # The next stage wants the processes that the one before has started; Ray would end them after a second.
        "RAY_idle_worker_killing_time_threshold_ms": "60000",
    }
    added = {name: value for name, value in local.items() if name not in os.environ}
    os.environ.update(added)
    try:
        # "local" on purpose: without an address Ray joins any cluster once recorded on this machine.
        ray.init(address="local", log_to_driver=False, logging_level=logging.WARNING, include_dashboard=False)
    except Exception as error:  # Ray raises bare ones too, such as for a start that took too long
        with contextlib.suppress(Exception):
            ray.shutdown()  # what it had started would stay
        raise SystemFault(_no_start(error)) from error
    finally:
        for name in added:
            del os.environ[name]


# What Ray says when it cannot start, and what to do about it.
_REMEDIES = (
    (
        r"AF_UNIX path|path .*too long|File name too long",
        "its folder has too long a path: set RAY_TMPDIR to a short one, such as /tmp/ray",
    ),
    (r"No space left|[Dd]isk quota", "make room in its folder ({folder}), or set RAY_TMPDIR to another"),
    (
        r"Permission denied|Read-only",
        "it may not write into its folder ({folder}): set RAY_TMPDIR to another",
    ),
    (r"/dev/shm", "make room in /dev/shm, or give the container more of it (docker's --shm-size)"),
    (
        r"[Aa]ddress already in use|\b[Pp]orts?\b",
        "a port is taken: stop what an earlier Ray left, by `ray stop`, and try again",
    ),
    (
        r"[Tt]imed out|[Tt]imeout|within \d+|start|fail",
        "the machine may be too busy, or short of memory: try again when less runs",
    ),
)


def _no_start(error: Exception) -> str:
    """Say in one line why no Ray starts, and the remedy."""
    said = " ".join(str(error).split())
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    remedy = next(
        (hint for pattern, hint in _REMEDIES if re.search(pattern, said)), "see its logs in {folder}/ray"
    )
    return f"Ray does not start on this machine ({said[:200]}); {remedy.format(folder=folder)}"


def _reach(address: str) -> None:
    """Raise if nobody listens there: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "://" not in address:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def keep_secrets() -> None:
    """Stop Ray Tune from copying AWS credentials into its logs.

    Call it before creating a Tuner, which would pass them to trials in a runtime environment.

    Trials find them as every other worker does.
    """
    from ray.tune.execution import class_cache

    passed = class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.ENV_VARS_TO_PROPAGATE = {name for name in passed if not name.startswith("AWS_")}


def _quiet() -> None:
    """Silence Ray's messages about normal work."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # our own sentence says what failed
    for name in ("ray.train", "ray.tune", "ray._private.authentication", "optuna"):
        logging.getLogger(name).setLevel(logging.ERROR)
