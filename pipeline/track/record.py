"""Committed rounds, recorded in MLflow."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Final

from pipeline.config.project import Config
from pipeline.track.database import TrackingUnavailable
from pipeline.track.names import config_params
from pipeline.track.names import key as metric_key
from pipeline.track.session import RoundRecord
from pipeline.track.tracker import Tracker
from pipeline.voice import Voice
from pipeline.workspace import keys
from pipeline.workspace.folder import Folder
from pipeline.workspace.frozen import of_round
from pipeline.workspace.metrics import Metrics

NUMBERS: Final = (
    *("test_accuracy", "open_accuracy", "known_accuracy", "joined_accuracy", "held_out_accuracy"),
    *("test_images", "test_unreadable"),
    *("r_avg", "ood_auroc", "ood_fpr95", "threshold", "query_precision", "far_from"),
    *(
        "classes",
        "listed",
        "scored",
        "quarantined",
        "labeled_total",
        "query_size",
        "marked_ood",
        "bank_points",
    ),
)


def record_round(folder: Folder, index: int, config: Config, *, tracker: Tracker, voice: Voice) -> None:
    """Record a round in MLflow, once.

    A tracker that does not answer never stops a round: the next run records it.

    Args:
        folder: of the round.
        index: of the round.
        config: of the project; the parameters are the values that the round has frozen, and where it works now.
        tracker: of the project.
        voice: shows how long it took, or why it has to wait.
    """
    if folder.exists(keys.TRACKING):
        return
    began = time.perf_counter()
    try:
        logged = tracker.log_round(_record(folder, index, config))
    except TrackingUnavailable as error:
        voice.say(f"  tracking  not now: {error} (kept, and sent by the next run)")
        return
    folder.write_json(keys.TRACKING, asdict(logged))
    voice.say(f"  {'track':<9} {time.perf_counter() - began:6.1f} s")


def _record(folder: Folder, index: int, config: Config) -> RoundRecord:
    metrics = Metrics.read(folder)
    earlier = [Metrics.read(Folder.of_round(folder.workspace, i)) for i in range(index)]
    values = {name: float(value) for name in NUMBERS if (value := getattr(metrics, name)) is not None}
    for label, group in (
        ("slope", metrics.slopes),
        ("labels", metrics.labels_per_class),
        ("seconds", metrics.seconds),
        ("images_per_s", metrics.images_per_s),
    ):
        values |= {metric_key(label, name): float(value) for name, value in group.items()}
    model = (keys.MODEL_WEIGHTS, keys.MODEL_RECORD)
    return RoundRecord(
        index=index,
        params=config_params(of_round(folder.workspace, config, index)),
        metrics=values,
        artefacts={
            name: folder.get(name)
            for name in (keys.QUERY, keys.SLOPES, keys.EVALUATION, keys.REPORT, *folder.names(keys.PLOTS))
            if name != keys.REPORT or folder.exists(name)  # a report that showed a withdrawn image is gone
        },
        model={name.rpartition("/")[2]: folder.get(name) for name in model},
        best=all(metrics.goodness > other.goodness for other in earlier),
    )
