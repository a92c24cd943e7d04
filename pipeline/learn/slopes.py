"""Search of the slopes with Ray Tune.

Each trial tries one slope a layer and reports r_avg. The labeled set's saliencies go once into the object store. The
objective is the library's `average_ratio`, the paper's: alpha* = argmin r_avg(alpha), leave-one-out over the labeled
rows with their true labels.

A finished trial leaves its result as a file of its own. A search that was cut off starts again from the beginning: it
makes the same proposals, and computes only those without a file. Ray Tune's own restoring is not used: it would
unpickle what lies in the storage, and knows no more of a trial than its last checkpoint of the whole search.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import ray.tune
import torch
from numpy.typing import NDArray

import sisom
from pipeline.cluster.joining import keep_secrets
from pipeline.cluster.layout import Cluster
from pipeline.config.project import Config
from pipeline.encoding import canonical
from pipeline.errors import StageFailed
from pipeline.learn.attempt import Attempt
from pipeline.learn.trial_processes import kept_processes
from pipeline.store.opening import Store, open_store
from pipeline.voice import Voice

RETRIES = 3  # of a trial whose process died


def search(
    features: sisom.Features,
    targets: torch.Tensor,
    config: Config,
    *,
    cluster: Cluster,
    attempt: Attempt,
    voice: Voice,
) -> dict[str, Any]:
    """Find the slopes for this round's feature space.

    Args:
        features: of the labeled rows.
        targets: (n,) int64, their true classes.
        config: the run's config.
        cluster: where the trials run.
        attempt: name and place of the search, and the seed of Optuna's proposals.
        voice: told how many trials were finished before.

    Returns:
        What `slopes.json` records: `slopes` by layer, `r_avg` of them, `default_r_avg`, `method`, `trials` (slopes
        and r_avg of each, in a fixed order), and `note`, which says why a search was skipped.
    """
    default = config.slope_defaults()
    found: dict[str, Any] = {
        "slopes": default, "r_avg": None, "default_r_avg": None, "method": config.slopes.search,
        "trials": [], "note": None,
    }  # fmt: skip
    try:
        found["r_avg"] = found["default_r_avg"] = sisom.average_ratio(
            features, targets, default, spec=config.bank.spec
        )
    except sisom.errors.TooFewLabels as error:
        return found | {"note": f"search skipped: {error}"}
    if config.slopes.search == "none":
        return found | {"note": "no search was asked for: the default slopes stand"}
    finished = _Finished(open_store(f"{attempt.storage_path}/{attempt.name}-finished", config.storage))
    known = finished.read()
    if known:
        voice.say(f"    slopes: {len(known)} trials were finished before")
    trial = ray.tune.with_parameters(  # into the object store once, whatever the number of trials
        _trial,
        rows=_Rows(features.to_arrays(), features.layer_dims, targets.numpy()),
        spec=config.bank.spec,
        finished=finished,
        known=known,
    )
    trials = _trials(trial, config, cluster, attempt=attempt)
    found["trials"] = trials
    # Ties go to the smaller slopes, that is to the smaller saturation. The default stands unless it is beaten.
    best = min(trials, key=lambda trial: (trial["r_avg"], sum(trial["slopes"].values())))
    if best["r_avg"] < found["default_r_avg"]:
        return found | {"slopes": best["slopes"], "r_avg": best["r_avg"]}
    return found | {"note": "no trial beat the default slopes"}


@dataclass(frozen=True)
class _Finished:
    """The results of finished trials, each under the digest of its slopes."""

    store: Store

    def read(self) -> dict[str, float]:
        """Read the stored r_avg by key."""
        return {entry.key: json.loads(self.store.get(entry.key))["r_avg"] for entry in self.store.list()}

    def write(self, slopes: Mapping[str, float], r_avg: float) -> None:
        """Store a result; of two equal trials the first stays."""
        data = json.dumps({"slopes": dict(slopes), "r_avg": r_avg}, sort_keys=True).encode()
        self.store.put_if_absent(self.key(slopes), data)

    @staticmethod
    def key(slopes: Mapping[str, float]) -> str:
        """Return the key of these slopes' result."""
        return f"{hashlib.sha256(canonical(dict(slopes))).hexdigest()[:16]}.json"


def _trials(trial: Any, config: Config, cluster: Cluster, *, attempt: Attempt) -> list[dict[str, Any]]:
    """Run the trials and return slopes and r_avg, best first."""
    slopes = config.slopes
    space: dict[str, Any]
    if slopes.search == "grid":
        space = {layer: ray.tune.grid_search(list(slopes.grid[layer])) for layer in config.model.layers}
        algorithm, samples = None, 1
    else:
        space = {layer: ray.tune.loguniform(slopes.low, slopes.high) for layer in config.model.layers}
        import optuna
        from ray.tune.search import ConcurrencyLimiter  # here: every trial's process imports this module
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        searcher = OptunaSearch(seed=attempt.seed, points_to_evaluate=[_within(config)])
        # In whole batches: what Optuna proposes may not depend on which trial happened to end first.
        algorithm, samples = (
            ConcurrencyLimiter(searcher, max_concurrent=slopes.parallel, batch=True),
            slopes.trials,
        )
    keep_secrets()
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(trial, {"CPU": min(1.0, cluster.cpus / (slopes.parallel + 1))}),
        param_space=space,
        tune_config=ray.tune.TuneConfig(
            metric="r_avg",
            mode="min",
            search_alg=algorithm,
            num_samples=samples,
            max_concurrent_trials=None if algorithm else slopes.parallel,
            reuse_actors=True,
        ),
        run_config=ray.tune.RunConfig(
            name=attempt.name,
            storage_path=attempt.storage_path,
            failure_config=ray.tune.FailureConfig(max_failures=RETRIES),
            verbose=0,
        ),
    )
    with kept_processes(min(slopes.parallel, samples)):
        results = tuner.fit()
    if results.errors:
        failed = StageFailed(f"{len(results.errors)} trials of the slope search failed: {results.errors[0]}")
        failed.stage = "slopes"
        raise failed
    trials = []
    for i in range(len(results)):
        found, metrics = results[i].config or {}, results[i].metrics or {}
        slopes_of = {layer: float(found[layer]) for layer in config.model.layers}
        trials.append({"slopes": slopes_of, "r_avg": float(metrics["r_avg"])})
    return sorted(trials, key=lambda trial: (trial["r_avg"], sorted(trial["slopes"].items())))


def _within(config: Config) -> dict[str, float]:
    """Return the default slopes, moved into the searched range."""
    low, high = config.slopes.low, config.slopes.high
    return {layer: min(max(slope, low), high) for layer, slope in config.slope_defaults().items()}


@dataclass(frozen=True)
class _Rows:
    """The labeled rows as arrays, which Ray shares without a copy."""

    arrays: Mapping[str, NDArray[Any]]
    layer_dims: tuple[tuple[str, int], ...]
    targets: NDArray[np.int64]


def _trial(
    space: dict[str, float],
    *,
    rows: _Rows,
    spec: sisom.BankSpec,
    finished: _Finished,
    known: Mapping[str, float],
) -> None:
    """Report r_avg of one choice of slopes, read or computed."""
    slopes = {layer: float(space[layer]) for layer in sorted(space)}
    found = known.get(finished.key(slopes))
    if found is None:
        torch.set_num_threads(1)
        features = sisom.Features.from_arrays(rows.arrays, rows.layer_dims)
        found = sisom.average_ratio(features, torch.as_tensor(rows.targets.copy()), slopes, spec=spec)
        finished.write(slopes, found)
    ray.tune.report({"r_avg": found})
