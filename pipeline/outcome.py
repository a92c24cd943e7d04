"""What a round tells: metrics.json, the view that the report draws, and its record in MLflow."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow.compute as pc

import sisom
from pipeline import gallery
from pipeline.broadcast import BankFile
from pipeline.config import Config
from pipeline.labeled import threshold_rows
from pipeline.labels import PREFIX, Labels
from pipeline.mlflow_session import RoundRecord
from pipeline.planned import of_round
from pipeline.pool_view import PoolView
from pipeline.progress import Voice
from pipeline.report_view import Histogram, QueryCard, ReportView, RoundLine
from pipeline.snapshot import Snapshot
from pipeline.stages import Network
from pipeline.tracking import Tracker
from pipeline.tracking_database import TrackingUnavailable
from pipeline.tracking_keys import config_params
from pipeline.tracking_keys import key as metric_key
from pipeline.workspace import Workspace, round_key


def answers_key(index: int) -> str:
    """Where the simulated oracle's answers to a round's query go."""
    return f"{PREFIX}{index + 1:03d}-round-{index:03d}.parquet"


def member_key(index: int, member: int) -> str:
    """Where the weights lie of a network that a round trains for its committee; the first is the round's own."""
    return round_key(index, f"model/member-{member:03d}.safetensors" if member else "model/model.safetensors")


def stored_network(workspace: Workspace, index: int, config: Config, member: int = 0) -> Network:
    """The network of a round, as a value that workers can share; or another member of its committee."""
    weights = workspace.store.get(member_key(index, member))
    return Network(
        config.model, len(of_round(workspace, config, index).taxonomy), np.frombuffer(weights, np.uint8)
    )


def stored_bank(workspace: Workspace, index: int) -> sisom.FeatureBank:
    """The bank of a round."""
    return sisom.FeatureBank.from_bytes(workspace.store.get(round_key(index, "bank.safetensors")))


def bank_file(workspace: Workspace, index: int) -> BankFile:
    """Where the bank of a round lies, for workers that map it."""
    key = round_key(index, "bank.safetensors")
    return BankFile(workspace, key, workspace.digest(key))


def metrics_of(
    workspace: Workspace, index: int, config: Config, labels: Labels, view: PoolView
) -> dict[str, Any]:
    """The metrics of a round, as metrics.json holds them; None where something is not known."""
    evaluation = workspace.read_json(round_key(index, "evaluation.json"))
    slopes = workspace.read_json(round_key(index, "slopes.json"))
    bank = stored_bank(workspace, index)
    stages = {}
    for key in workspace.keys(round_key(index, "timings/")):
        stages[key.rpartition("/")[2].removesuffix(".json")] = workspace.read_json(key)
    query = workspace.read_table(round_key(index, "query.parquet"), ["id"])
    counts = labels.counts()
    held = np.asarray(
        workspace.read_table(round_key(index, "labeled.parquet"), ["held_out"])["held_out"].to_pylist()
    )
    judges = threshold_rows(held)
    first = workspace.read_json(round_key(index, "plan.json"))["config"]["taxonomy"]
    joined = list(config.taxonomy[len(first) :])
    return {
        **workspace.read_json(round_key(index, "account.json")),
        "round": index,
        "test_accuracy": evaluation.get("accuracy"),
        "open_accuracy": evaluation.get("open_accuracy"),
        "per_class_accuracy": evaluation.get("per_class", {}),
        **_by_age(evaluation.get("per_class", {}), config, joined),
        "classes": len(config.taxonomy),
        "classes_joined": joined,
        "proposed": labels.proposed(),
        "held_out_accuracy": workspace.read_json(round_key(index, "model/model.json"))["training"][
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
        "far_from": workspace.read_json(round_key(index, "triage.json"))["far_from"],
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
    asked = workspace.read_table(round_key(index - 1, "query.parquet"), ["id"])["id"]
    answers = Counter(
        labels.table.filter(pc.is_in(labels.table["id"], asked.combine_chunks()))["status"].to_pylist()
    )
    judged = answers["labeled"] + answers["unknown-class"] + answers["out-of-world"]
    return 1 - answers["out-of-world"] / judged if judged else None


def view_of(
    workspace: Workspace,
    index: int,
    config: Config,
    snapshot: Snapshot,
    view: PoolView,
    metrics: Mapping[str, Any],
) -> ReportView:
    """What the report of a round shows."""
    query = workspace.read_table(round_key(index, "query.parquet")).to_pylist()
    pictures = gallery.thumbnails(query, snapshot, config)
    answers: dict[str, str] = {}
    if workspace.exists(answers_key(index)):
        rows = workspace.read_table(answers_key(index)).to_pylist()
        answers = {row["id"]: row["label"] or row["status"] for row in rows}
    reasons: dict[tuple[str, str], int] = {}
    for table in workspace.tables(round_key(index, "quarantine/"), ["stage", "reason"]):
        for row in table.to_pylist():
            kind = row["stage"], row["reason"].partition(":")[0]  # what follows may be different in every row
            reasons[kind] = reasons.get(kind, 0) + 1
    lines = [workspace.read_json(round_key(i, "metrics.json")) for i in range(index)] + [metrics]
    names = ("labeled_total", "test_accuracy", "r_avg", "ood_auroc", "ood_fpr95")
    slopes = workspace.read_json(round_key(index, "slopes.json"))
    return ReportView(
        project=config.workspace.rstrip("/").rpartition("/")[2],
        index=index,
        rounds=tuple(RoundLine(line["round"], *(line[name] for name in names)) for line in lines),
        metrics=metrics,
        score=config.scoring.score,
        threshold=metrics["threshold"],
        histogram=Histogram(view.edges, view.counts),
        query=tuple(
            QueryCard(
                rank=row["rank"],
                id=row["id"],
                score=row["score"],
                predicted=row["predicted"],
                reason=row["reason"],
                answer=answers.get(row["id"]),
                thumbnail=pictures.get(row["id"]),
            )
            for row in query
        ),
        labels=metrics["labels_per_class"],
        other_answers=metrics["refused"],
        quarantine=tuple((stage, reason, count) for (stage, reason), count in sorted(reasons.items())),
        slopes=slopes["slopes"],
        slopes_note=slopes["note"],
        default_r_avg=slopes["default_r_avg"],
    )


def track(workspace: Workspace, config: Config, tracker: Tracker, voice: Voice, index: int) -> None:
    """Record a round in MLflow, once. A tracker that does not answer never stops a round: it is told later."""
    marker = round_key(index, "tracking.json")
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
    metrics = workspace.read_json(round_key(index, "metrics.json"))
    earlier = [workspace.read_json(round_key(i, "metrics.json")) for i in range(index)]
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
        name: workspace.store.get(round_key(index, name))
        for name in ("query.parquet", "slopes.json", "report.html")
    }
    for key in workspace.keys(round_key(index, "plots/")):
        files[f"plots/{key.rpartition('/')[2]}"] = workspace.store.get(key)
    model = {
        n: workspace.store.get(round_key(index, f"model/{n}")) for n in ("model.safetensors", "model.json")
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
