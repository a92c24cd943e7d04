"""What mlflow learns of a round."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pipeline.config.project import Config
from pipeline.track.database import TrackingUnavailable
from pipeline.track.names import config_params
from pipeline.track.names import key as metric_key
from pipeline.track.session import RoundRecord
from pipeline.track.tracker import Tracker
from pipeline.voice import Voice
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.keys import round_key


def track(workspace: Workspace, config: Config, tracker: Tracker, voice: Voice, index: int) -> None:
    """Record a round in MLflow, once. A tracker that does not answer never stops a round: it is told later."""
    marker = round_key(index, keys.TRACKING)
    if workspace.exists(marker):
        return
    began = time.perf_counter()
    try:
        logged = tracker.log_round(_record(workspace, config, index))
    except TrackingUnavailable as error:
        voice.say(f"  tracking  not now: {error} (kept, and sent by the next run)")
        return
    workspace.write_json(marker, asdict(logged))
    voice.say(f"  {'track':<9} {time.perf_counter() - began:6.1f} s")


def _record(workspace: Workspace, config: Config, index: int) -> RoundRecord:
    metrics = workspace.read_json(round_key(index, keys.METRICS))
    earlier = [workspace.read_json(round_key(i, keys.METRICS)) for i in range(index)]
    plain = (
        *("test_accuracy", "open_accuracy", "known_accuracy", "joined_accuracy", "held_out_accuracy"),
        *("r_avg", "ood_auroc", "ood_fpr95", "threshold", "query_precision", "far_from"),
    )
    counts = (
        "classes",
        "listed",
        "scored",
        "quarantined",
        "labeled_total",
        "query_size",
        "marked_ood",
        "bank_points",
    )
    values = {name: metrics[name] for name in (*plain, *counts) if metrics[name] is not None}
    for group, label in (
        ("slopes", "slope"),
        ("labels_per_class", "labels"),
        ("seconds", "seconds"),
        ("images_per_s", "images_per_s"),
    ):
        values |= {metric_key(label, name): value for name, value in metrics[group].items()}
    files = {
        name: workspace.store.get(round_key(index, name)) for name in (keys.QUERY, keys.SLOPES, keys.REPORT)
    }
    for key in workspace.keys(round_key(index, keys.PLOTS)):
        files[key.removeprefix(round_key(index, ""))] = workspace.store.get(key)
    model = {
        name.rpartition("/")[2]: workspace.store.get(round_key(index, name))
        for name in (keys.MODEL_WEIGHTS, keys.MODEL_RECORD)
    }
    return RoundRecord(
        index=index,
        params=config_params(config),
        metrics={name: float(value) for name, value in values.items()},
        artefacts=files,
        model=model,
        best=all(_goodness(metrics) > _goodness(other) for other in earlier),
    )


def _goodness(metrics: Mapping[str, Any]) -> float:
    """What makes a model the best so far: test accuracy, or held-out accuracy without a test set."""
    found = metrics["test_accuracy"] if metrics["test_accuracy"] is not None else metrics["held_out_accuracy"]
    return -1.0 if found is None else float(found)
