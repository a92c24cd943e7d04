"""Cells, the pieces of a study.

A Ray Tune trial computes each cell, and its result is one atomic artefact. A cell's key holds a digest of everything
that the result depends on. So no later run computes a finished cell again, and a changed config makes another cell.
"""

from __future__ import annotations

import base64
import hashlib
import os
import pickle
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import ray
import ray.tune
import torch

from pipeline.cluster.joining import keep_secrets
from pipeline.cluster.layout import Cluster
from pipeline.config.sections import Storage
from pipeline.encoding import canonical
from pipeline.errors import StageFailed, ours
from pipeline.store.opening import open_store
from pipeline.studies.sections import Compute
from pipeline.voice import Voice
from pipeline.workspace.artefacts import Workspace

# Version of the rules by which networks are trained and pools filtered. It changes whenever the results change, so that
# no study mixes cells of two versions. 1: a loop and a filter of the studies' own. 2: those of rounds.
RULES = 2
_STARTS = 3  # of Ray Tune for the same cells


@dataclass(frozen=True)
class Bench:
    """Place and resources of a cell's work; travels to workers.

    workspace  URI of the study's workspace
    home       folder that the config's relative paths start from
    storage    how stores are reached
    device     cpu or cuda
    compute    threads, batch size and share of a GPU
    """

    workspace: str
    home: str
    storage: Storage
    device: str
    compute: Compute

    def open(self) -> Workspace:
        """Open the study's workspace."""
        return Workspace(open_store(self.workspace, self.storage))


@dataclass(frozen=True)
class Lab:
    """A bench on a cluster, and the voice that reports its cells."""

    bench: Bench
    cluster: Cluster
    voice: Voice


Hints = TypeVar("Hints")


@dataclass(frozen=True)
class Cell(Generic[Hints]):
    """A piece of work.

    `work(cell, bench, shared)` returns the JSON of the result, with `seconds` apart. `spec` holds everything that the
    result depends on and nothing else: no places, no machines. `hints` holds what the work needs beside it, such as the
    place of the images; it is a value of the work's own type.
    """

    name: str
    spec: Mapping[str, Any]
    work: Callable[[Cell[Hints], Bench, Any], Mapping[str, Any]]
    hints: Hints

    @property
    def folder(self) -> str:
        """Folder of the result and of anything else the cell keeps."""
        digest = hashlib.sha256(canonical({"name": self.name, "spec": self.spec})).hexdigest()[:12]
        readable = re.sub(r"[^\w.\-+=/]", "_", self.name).replace("..", "__")
        return f"cells/{readable}-{digest}"

    @property
    def key(self) -> str:
        """Key of the result; once it exists, the cell is finished."""
        return f"{self.folder}/result.json"


def compute(cells: Sequence[Cell[Any]], lab: Lab, *, shared: Any = None) -> list[dict[str, Any]]:
    """Compute the missing cells; return all results in order.

    Args:
        cells: the cells, independent of each other.
        lab: where they work; at most `compute.trials` at once, each with `compute.threads` CPUs.
        shared: put into the object store once, and passed to each cell.

    Raises:
        StageFailed: some cells failed; all others are finished by then.
        PipelineError: a cell failed by an error of ours.
    """
    workspace, voice = lab.bench.open(), lab.voice
    for left in reversed(range(_STARTS)):
        missing = [cell for cell in cells if not workspace.exists(cell.key)]
        if not missing:
            break
        if len(missing) < len(cells):
            voice.say(f"  {len(cells) - len(missing)} of {len(cells)} cells are finished")
        try:
            _run(missing, lab, shared)
        except RuntimeError as error:
            # Tune itself ends like this when Ray has killed a worker for the node's memory.
            if not left:
                raise _failed(f"Ray Tune gave up {_STARTS} times: {_first_line(error)}") from error
            voice.say(f"  Ray Tune gave up, going on with what is missing: {_first_line(error)}")
    return [workspace.read_json(cell.key) for cell in cells]


def _run(cells: Sequence[Cell[Any]], lab: Lab, shared: Any) -> None:
    bench, cluster = lab.bench, lab.cluster
    gpu = bench.device == "cuda"
    cpus = min(bench.compute.threads, cluster.node_cpus)
    room = int(cluster.gpus / bench.compute.gpu_share) if gpu else cluster.cpus // cpus
    by_name = {cell.name: cell for cell in cells}
    keep_secrets()
    trial = ray.tune.with_parameters(_trial, cells=by_name, bench=bench, shared=shared)
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(trial, {"CPU": cpus} | ({"GPU": bench.compute.gpu_share} if gpu else {})),
        param_space={"cell": ray.tune.grid_search(list(by_name))},
        tune_config=ray.tune.TuneConfig(
            max_concurrent_trials=max(1, min(bench.compute.trials or room, room)), reuse_actors=True
        ),
        run_config=ray.tune.RunConfig(
            name=f"cells-{time.time_ns()}",
            storage_path=open_store(bench.workspace, bench.storage).url("tune"),
            verbose=0,
            callbacks=[_Telling(lab.voice, len(cells))],
            # A process that died, maybe of its neighbors' memory, is tried again. An error is reported instead.
            failure_config=ray.tune.FailureConfig(max_failures=3),
        ),
    )
    found = tuner.fit()
    told = [
        metrics["error"]
        for metrics in (found[i].metrics for i in range(len(found)))
        if metrics and metrics.get("error")
    ]
    errors = [pickle.loads(base64.b64decode(each)) for each in told] + list(found.errors)
    if errors:
        known = ours(errors[0])
        if known is not None:
            raise known
        text = f"{len(errors)} of {len(cells)} cells failed, the others are kept: {_first_line(errors[0])}"
        raise _failed(text) from errors[0]


def _failed(text: str) -> StageFailed:
    failed = StageFailed(text)
    failed.stage = "study"
    return failed


def _first_line(error: BaseException) -> str:
    inner = getattr(error, "cause", None)  # Ray wraps the errors of its workers
    inner = inner if isinstance(inner, BaseException) else error
    return f"{type(inner).__name__}: {inner}".strip().splitlines()[0][:300]


class _Telling(ray.tune.Callback):
    """Reporter of a line for every cell that ends."""

    def __init__(self, voice: Voice, total: int) -> None:
        self._voice = voice
        self._total = total
        self._done = 0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune stores a copy of its settings to restore a run, which we never do

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:  # noqa: ARG002
        if trial.last_result and trial.last_result.get("error"):
            self._voice.say(f"  failed  {trial.config['cell']}")
            return
        self._done += 1
        seconds = trial.last_result.get("time_total_s", 0.0) if trial.last_result else 0.0
        self._voice.say(f"  {self._done:>4} of {self._total}  {trial.config['cell']}  {seconds:.1f} s")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:  # noqa: ARG002
        self._voice.say(f"  failed  {trial.config['cell']}")


def _trial(space: dict[str, str], *, cells: Mapping[str, Cell[Any]], bench: Bench, shared: Any) -> None:
    torch.set_num_threads(bench.compute.threads)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    if Path(bench.home).is_dir():  # Tune has moved the process into the trial's own folder
        os.chdir(bench.home)
    cell = cells[space["cell"]]
    try:
        _finish(cell, bench, shared)
    except Exception as error:  # noqa: BLE001 - the driver reports it, whatever it is
        ray.tune.report({"error": base64.b64encode(_portable(error)).decode()})
    else:
        ray.tune.report({"done": 1})


def _finish(cell: Cell[Any], bench: Bench, shared: Any) -> None:
    workspace = bench.open()
    if not workspace.exists(cell.key):  # else an earlier attempt ended before it could report
        result = cell.work(cell, bench, shared)
        workspace.write_json(cell.key, {"cell": cell.name, "spec": cell.spec, **result})


def _portable(error: Exception) -> bytes:
    """Pickle an error, or its text if it cannot be pickled."""
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:  # noqa: BLE001
        return pickle.dumps(StageFailed(f"{type(error).__name__}: {error}"))
    return data
