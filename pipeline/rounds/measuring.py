"""What a round tells: metrics.json, the view that the report draws, and its record in MLflow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipeline.config.project import Config
from pipeline.labels.tally import Labels
from pipeline.learn.split import threshold_rows
from pipeline.report.histogram import PoolView
from pipeline.rounds.stored import stored_bank
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.keys import round_key


def metrics_of(
    workspace: Workspace, index: int, config: Config, labels: Labels, view: PoolView
) -> dict[str, Any]:
    """The metrics of a round, as metrics.json holds them; None where something is not known."""
    evaluation = workspace.read_json(round_key(index, keys.EVALUATION))
    slopes = workspace.read_json(round_key(index, keys.SLOPES))
    bank = stored_bank(workspace, index)
    stages = {}
    for key in workspace.keys(round_key(index, keys.TIMINGS)):
        stages[key.rpartition("/")[2].removesuffix(".json")] = workspace.read_json(key)
    query = workspace.read_table(round_key(index, keys.QUERY), ["id"])
    counts = labels.counts()
    held = np.asarray(
        workspace.read_table(round_key(index, keys.LABELED), ["held_out"])["held_out"].to_pylist()
    )
    judges = threshold_rows(held)
    first = workspace.read_json(round_key(index, keys.PLAN))["config"]["taxonomy"]
    joined = list(config.taxonomy[len(first) :])
    return {
        **workspace.read_json(round_key(index, keys.ACCOUNT)),
        "round": index,
        "test_accuracy": evaluation.get("accuracy"),
        "open_accuracy": evaluation.get("open_accuracy"),
        "per_class_accuracy": evaluation.get("per_class", {}),
        **_by_age(evaluation.get("per_class", {}), config, joined),
        "classes": len(config.taxonomy),
        "classes_joined": joined,
        "proposed": labels.proposed(),
        "held_out_accuracy": workspace.read_json(round_key(index, keys.MODEL_RECORD))["training"][
            "held_out_accuracy"
        ],
        "r_avg": bank.r_avg,
        "threshold": bank.threshold,
        "threshold_rows": len(judges),
        "threshold_from": "held-out" if held[judges].all() else "all labeled",
        "bank_points": len(bank.labels),
        "slopes": slopes["slopes"],
        "ood_auroc": view.ood_auroc,
        "ood_fpr95": view.ood_fpr95,
        "marked_ood": view.is_ood,
        "labeled_total": sum(counts.values()),
        "labels_per_class": {name: counts.get(name, 0) for name in config.taxonomy},
        "refused": labels.refused(),
        "query_size": query.num_rows,
        "far_from": workspace.read_json(round_key(index, keys.FAR_FILTER))["far_from"],
        "query_precision": _precision(workspace, index, labels),
        "seconds": {stage: found["seconds"] for stage, found in stages.items()},
        "images_per_s": {
            s: found["images"] / found["seconds"] for s, found in stages.items() if found["images"]
        },
    }


def _by_age(per_class: Mapping[str, float], config: Config, joined: Sequence[str]) -> dict[str, float | None]:
    """Mean accuracy over the classes of the beginning, and over those that joined; None where none is tested."""

    def mean(names: Iterable[str]) -> float | None:
        found = [per_class[name] for name in names if name in per_class]
        return sum(found) / len(found) if found else None

    first = config.taxonomy[: len(config.taxonomy) - len(joined)]
    return {"known_accuracy": mean(first), "joined_accuracy": mean(joined)}


def _precision(workspace: Workspace, index: int, labels: Labels) -> float | None:
    """The share of the last query's answers that were worth asking for: of this world, known or novel."""
    if index == 0:
        return None
    asked = workspace.read_table(round_key(index - 1, keys.QUERY), ["id"])["id"]
    answers = Counter(
        labels.table.filter(pc.is_in(labels.table["id"], asked.combine_chunks()))["status"].to_pylist()
    )
    judged = answers["labeled"] + answers["unknown-class"] + answers["out-of-world"]
    return 1 - answers["out-of-world"] / judged if judged else None
