"""One round, from top to bottom.

    plan -> train -> evaluate -> slopes -> bank -> score -> select -> ask -> report -> commit

Each step leaves an artefact, written atomically, and is skipped where its artefact is there. What a step needs
beside artefacts comes from `plan.json`, the frozen inputs, so a resumed round equals an uninterrupted one. Clock
times lie in `timings/`, apart from everything that decides.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

import sisom
from pipeline import evaluate, gallery, labeled, oracle, scoring, selection, train, tune
from pipeline.config import Config
from pipeline.engine import Cluster
from pipeline.errors import WaitingForLabels
from pipeline.labels import PREFIX, Labels, batches, read_labels
from pipeline.pool import list_shards, shards_of, snapshot_table
from pipeline.progress import Voice
from pipeline.report import Histogram, QueryCard, ReportView, RoundLine, plots, render
from pipeline.stages import Network
from pipeline.tracking import RoundRecord, Tracker, TrackingUnavailable, config_params
from pipeline.tracking import key as metric_key
from pipeline.types import Round, Shard
from pipeline.workspace import Lease, Workspace, round_key

SNAPSHOT_KEY = "pool/00000.parquet"
MIN_HELD_OUT = 20  # below this the held-out rows alone can't tell a 5% quantile


@dataclass(frozen=True)
class Project:
    """What every round of a project shares."""

    config: Config
    workspace: Workspace
    tracker: Tracker
    lease: Lease
    voice: Voice


def run_round(project: Project, cluster: Cluster, index: int) -> Round:
    """Do, or finish, one round; returns when it is committed.

    Raises:
        WaitingForLabels: the last query has not been answered.
        UserError: the pool or the labels are not what the config says.
        SystemFault: a stage failed; running again goes on where it stopped.
    """
    work = _Work(project, cluster, index)
    _plan(work)
    torch.set_num_threads(work.plan["threads"])  # the last bit of a sum depends on it
    _train(work)
    _evaluate(work)
    _search_slopes(work)
    _fit_bank(work)
    _score(work)
    _select(work)
    _ask(work)
    _report(work)
    return _commit(work)


class _Work:
    """A round in progress: its keys, its frozen inputs, and what several steps read, each read once."""

    def __init__(self, project: Project, cluster: Cluster, index: int) -> None:
        self.project = project
        self.config = project.config
        self.workspace = project.workspace
        self.cluster = cluster
        self.index = index

    def key(self, name: str) -> str:
        return round_key(self.index, name)

    def done(self, name: str) -> bool:
        return self.workspace.exists(self.key(name))

    @contextmanager
    def timed(self, stage: str, images: Callable[[], int] | None = None) -> Iterator[None]:
        """Announce a stage and leave its seconds, and its images per second, beside the artefacts."""
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        count = images() if images else 0
        self.workspace.write_json(self.key(f"timings/{stage}.json"), {"seconds": seconds, "images": count})
        rate = f", {count / seconds:.0f} images/s" if count else ""
        self.project.voice.say(f"  {stage:<9} {seconds:6.1f} s{rate}")

    @cached_property
    def plan(self) -> Mapping[str, Any]:
        """The frozen inputs."""
        found: Mapping[str, Any] = self.workspace.read_json(self.key("plan.json"))
        return found

    @cached_property
    def shards(self) -> list[Shard]:
        """The frozen listing of the pool."""
        return shards_of(self.workspace.read_table(self.key(SNAPSHOT_KEY)))

    @cached_property
    def labels(self) -> Labels:
        """The answers that this round learns from."""
        return read_labels(self.workspace, self.plan["labels"], self.config.taxonomy)

    @cached_property
    def labeled_set(self) -> labeled.LabeledSet:
        """The labeled rows, decoded into the object store."""
        table = self.workspace.read_table(self.key("labeled.parquet"))
        return labeled.read_labeled(table, self.shards, self.config, self.cluster)

    @cached_property
    def network(self) -> Network:
        """The trained classifier."""
        return stored_network(self.workspace, self.index, self.config)

    @cached_property
    def embedded(self) -> labeled.Embedded:
        """The features of the labeled rows."""
        return labeled.embed(self.labeled_set, self.network, self.config, self.cluster)

    @cached_property
    def truth(self) -> oracle.Truth | None:
        """The truths, for the simulated oracle and for evaluation; None outside simulations."""
        return oracle.read_truth(self.config) if self.config.truth_uri else None


def round_seed(seed: int, index: int) -> int:
    """The seed of a round: below 2^31, different for every round."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:4], "big") >> 1


# -------------------------------------------------------------------------------------------------- steps


def _plan(work: _Work) -> None:
    """Freeze the inputs: the labels, the listing of the pool, the labeled rows' places, seed and config."""
    if work.done("plan.json"):
        return
    with work.timed("plan"):
        config, workspace = work.config, work.workspace
        keys = _label_batches(work)
        answers = read_labels(workspace, keys, config.taxonomy)
        shards = list(list_shards(config.pool, config.storage))
        ids, names = answers.labeled()
        numbers = {name: i for i, name in enumerate(config.taxonomy)}
        seed = round_seed(config.seed, work.index)
        places = labeled.locate(ids, shards, config)
        rows = labeled.labeled_table(
            ids, [numbers[n] for n in names], places, config.train.held_out, config.seed
        )
        workspace.write_table(work.key(SNAPSHOT_KEY), snapshot_table(shards))
        workspace.write_table(work.key("labeled.parquet"), rows)
        plan = {
            "index": work.index,
            "seed": seed,
            "config": config.identity(),
            "config_digest": config.digest(),
            "taxonomy": list(config.taxonomy),
            "labels": keys,
            "label_digests": {key: workspace.digest(key) for key in keys},
            "pool": {
                "shards": len(shards),
                "rows": sum(shard.rows for shard in shards),
                "digest": workspace.digest(work.key(SNAPSHOT_KEY)),
            },
            "threads": max(1, (work.cluster.node_cpus - 1) // config.train.num_workers),
        }
        workspace.write_json(work.key("plan.json"), plan)


def _label_batches(work: _Work) -> list[str]:
    """The label files that exist now; the first one is made, and the last query must be answered."""
    config, workspace = work.config, work.workspace
    first = f"{PREFIX}000-initial.parquet"
    if not workspace.exists(first):
        workspace.write_table(first, oracle.initial(config))
    keys = batches(workspace)
    if work.index > 0:
        query = workspace.read_table(round_key(work.index - 1, "query.parquet"), ["id"])["id"].to_pylist()
        answered = read_labels(workspace, keys, config.taxonomy).answered()
        open_ = [name for name in query if name not in answered]
        if query and len(open_) == len(query):
            place = workspace.store.url(f"{PREFIX}{work.index:03d}-answers.parquet")
            raise WaitingForLabels(
                f"round {work.index - 1:03d} asks about {len(query)} images "
                f"({workspace.store.url(round_key(work.index - 1, 'query.parquet'))}) and none is answered; "
                f"write the answers to {place} (id, label, status) and run again"
            )
    return keys


def _train(work: _Work) -> None:
    if work.done("model/model.json"):
        return
    rows = 0
    with work.timed("train", lambda: rows):
        config, workspace = work.config, work.workspace
        start = None
        if config.train.start == "last" and work.index > 0:
            start = workspace.store.get(round_key(work.index - 1, "model/model.safetensors"))
        trained = train.train(
            work.labeled_set,
            start,
            config,
            work.cluster,
            storage_path=workspace.store.url("train"),
            name=f"round-{work.index:03d}-{work.plan['config_digest'][:8]}",
            seed=work.plan["seed"],
            threads=work.plan["threads"],
        )
        rows = trained.record["rows"] * trained.record["epochs"]
        model = {
            "model": config.model.model_dump(mode="json"),
            "taxonomy": list(config.taxonomy),
            "training": dict(trained.record),
            "unreadable": work.labeled_set.broken.to_pylist(),
            "weights_sha256": hashlib.sha256(trained.weights).hexdigest(),
        }
        workspace.store.put(work.key("model/model.safetensors"), trained.weights)
        workspace.write_json(work.key("model/model.json"), model)


def _evaluate(work: _Work) -> None:
    if work.done("evaluation.json"):
        return
    found: dict[str, Any] | None = None
    with work.timed("evaluate", lambda: found["images"] if found else 0):
        found = evaluate.test_accuracy(work.network, work.config, work.cluster)
        work.workspace.write_json(work.key("evaluation.json"), found or {})


def _search_slopes(work: _Work) -> None:
    if work.done("slopes.json"):
        return
    with work.timed("embed", lambda: len(work.embedded.ids)):
        work.embedded  # noqa: B018 - computed here, so that its time is its own
    with work.timed("slopes"):
        found = tune.search(
            work.embedded.features,
            work.embedded.targets,
            work.config,
            work.cluster,
            storage_path=work.workspace.store.url("tune"),
            name=f"round-{work.index:03d}",
            seed=work.plan["seed"],
        )
        work.workspace.write_json(work.key("slopes.json"), found)


def _fit_bank(work: _Work) -> None:
    """Fit the bank on all labeled rows, then set the threshold on the held-out ones, each without itself."""
    if work.done("bank.safetensors"):
        return
    with work.timed("bank"):
        config, rows = work.config, work.embedded
        found = work.workspace.read_json(work.key("slopes.json"))
        bank = sisom.fit_bank(
            rows.features,
            rows.targets,
            slopes=found["slopes"],
            subset=config.bank.subset,
            subset_method=config.bank.subset_method,
            seed=work.plan["seed"],
            outer=config.bank.outer,
            fusion=config.bank.fusion,
            rank=config.bank.rank,
            # Too few labels for a leave-one-out value: 1.0 makes SISOMe the energy score, which needs none.
            r_avg=1.0 if found["r_avg"] is None else None,
            num_classes=len(config.taxonomy),
        )
        usable = rows.held_out if int(rows.held_out.sum()) >= MIN_HELD_OUT else torch.ones_like(rows.held_out)
        chosen = usable.nonzero().squeeze(1)
        scores = sisom.score(bank, rows.features.select(chosen), exclude=chosen)
        limit = sisom.threshold(getattr(scores, config.scoring.score), config.scoring.keep)
        work.workspace.store.put(work.key("bank.safetensors"), replace(bank, threshold=limit).to_bytes())


def _score(work: _Work) -> None:
    if work.done("account.json"):
        return
    account: scoring.Account | None = None
    with work.timed("score", lambda: account.images if account else 0):
        account = scoring.score_pool(
            work.workspace,
            work.key(""),
            work.shards,
            work.network,
            stored_bank(work.workspace, work.index),
            work.config,
            work.cluster,
            work.project.voice,
        )
        counts = {name: getattr(account, name) for name in ("listed", "scored", "quarantined")}
        work.workspace.write_json(work.key("account.json"), counts)


def _select(work: _Work) -> None:
    if work.done("query.parquet"):
        return
    with work.timed("select"):
        columns = ["id", "uri", "predicted", "inner", "outer", "ratio", "energy", "sisom", "sisome", "is_ood"]
        query = selection.select(
            work.workspace.tables(work.key("scores/"), columns),
            work.labels.answered(),
            work.config.query,
            seed=work.plan["seed"],
        )
        work.workspace.write_table(work.key("query.parquet"), query)


def _ask(work: _Work) -> None:
    """Let the simulated oracle answer at once; people answer in their own time."""
    key = f"{PREFIX}{work.index + 1:03d}-round-{work.index:03d}.parquet"
    if work.config.oracle.kind == "simulated" and not work.workspace.exists(key):
        assert work.truth is not None
        ids = work.workspace.read_table(work.key("query.parquet"), ["id"])["id"].to_pylist()
        work.workspace.write_table(key, oracle.simulated(work.truth, ids))


def _report(work: _Work) -> None:
    if work.done("report.html"):
        return
    with work.timed("report"):
        view = evaluate.view_scores(
            work.workspace.tables(work.key("scores/"), ["id", work.config.scoring.score, "is_ood"]),
            work.config.scoring.score,
            work.truth,
            work.labels.answered(),
        )
        metrics = _metrics(work, view)
        work.workspace.write_json(work.key("metrics.json"), metrics)
        page = _view(work, view, metrics)
        for name, png in plots(page).items():
            work.workspace.store.put(work.key(f"plots/{name}"), png)
        work.workspace.store.put(work.key("report.html"), render(page).encode())


def _commit(work: _Work) -> Round:
    """Record the round in MLflow, then write the manifest: from here on the round exists."""
    track(work.project, work.index)
    workspace = work.workspace
    names = ["plan.json", "labeled.parquet", SNAPSHOT_KEY, "model/model.safetensors", "slopes.json"]
    names += ["bank.safetensors", "account.json", "query.parquet"]
    manifest = Round(
        index=work.index,
        seed=work.plan["seed"],
        config_digest=work.plan["config_digest"],
        labels=tuple(work.plan["labels"]),
        snapshot=work.plan["pool"]["digest"],
        artefacts=tuple((name, workspace.digest(work.key(name))) for name in names),
    )
    work.project.lease.check()
    workspace.write_json(work.key("round.json"), {**asdict(manifest), "artefacts": dict(manifest.artefacts)})
    return manifest


# ------------------------------------------------------------------------------------- what a round leaves


def stored_network(workspace: Workspace, index: int, config: Config) -> Network:
    """The network of a round, as a value that workers can share."""
    weights = workspace.store.get(round_key(index, "model/model.safetensors"))
    return Network(config.model, len(config.taxonomy), np.frombuffer(weights, np.uint8))


def stored_bank(workspace: Workspace, index: int) -> sisom.FeatureBank:
    """The bank of a round."""
    return sisom.FeatureBank.from_bytes(workspace.store.get(round_key(index, "bank.safetensors")))


def _metrics(work: _Work, view: evaluate.PoolView) -> dict[str, Any]:
    workspace = work.workspace
    evaluation = workspace.read_json(work.key("evaluation.json"))
    slopes = workspace.read_json(work.key("slopes.json"))
    bank = stored_bank(workspace, work.index)
    stages = {}
    for key in workspace.keys(work.key("timings/")):
        stages[key.rpartition("/")[2].removesuffix(".json")] = workspace.read_json(key)
    query = workspace.read_table(work.key("query.parquet"), ["id"])
    return {
        **workspace.read_json(work.key("account.json")),
        "round": work.index,
        "test_accuracy": evaluation.get("accuracy"),
        "per_class_accuracy": evaluation.get("per_class", {}),
        "held_out_accuracy": workspace.read_json(work.key("model/model.json"))["training"][
            "held_out_accuracy"
        ],
        "r_avg": bank.r_avg,
        "threshold": bank.threshold,
        "bank_points": len(bank.labels),
        "slopes": slopes["slopes"],
        "ood_auroc": view.ood_auroc,
        "ood_fpr95": view.ood_fpr95,
        "marked_ood": view.is_ood,
        "labeled_total": sum(work.labels.counts().values()),
        "labels_per_class": {name: work.labels.counts().get(name, 0) for name in work.config.taxonomy},
        "refused": work.labels.refused(),
        "query_size": query.num_rows,
        "seconds": {stage: found["seconds"] for stage, found in stages.items()},
        "images_per_s": {
            s: found["images"] / found["seconds"] for s, found in stages.items() if found["images"]
        },
    }


def _view(work: _Work, view: evaluate.PoolView, metrics: Mapping[str, Any]) -> ReportView:
    workspace = work.workspace
    query = workspace.read_table(work.key("query.parquet")).to_pylist()
    pictures = gallery.thumbnails(query, work.shards, work.config)
    answers: dict[str, str] = {}
    answered = f"{PREFIX}{work.index + 1:03d}-round-{work.index:03d}.parquet"
    if workspace.exists(answered):
        rows = workspace.read_table(answered).to_pylist()
        answers = {row["id"]: row["label"] or row["status"] for row in rows}
    reasons: dict[tuple[str, str], int] = {}
    for table in workspace.tables(work.key("quarantine/"), ["stage", "reason"]):
        for row in table.to_pylist():
            reasons[row["stage"], row["reason"]] = reasons.get((row["stage"], row["reason"]), 0) + 1
    lines = [workspace.read_json(round_key(i, "metrics.json")) for i in range(work.index)] + [metrics]
    names = ("labeled_total", "test_accuracy", "r_avg", "ood_auroc", "ood_fpr95")
    slopes = workspace.read_json(work.key("slopes.json"))
    return ReportView(
        project=work.config.workspace.rstrip("/").rpartition("/")[2],
        index=work.index,
        rounds=tuple(RoundLine(line["round"], *(line[name] for name in names)) for line in lines),
        metrics=metrics,
        score=work.config.scoring.score,
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


# ------------------------------------------------------------------------------------------------- MLflow


def track(project: Project, index: int) -> None:
    """Record a round in MLflow, once. A tracker that does not answer never stops a round: it is told later."""
    workspace = project.workspace
    marker = round_key(index, "tracking.json")
    if workspace.exists(marker):
        return
    began = time.perf_counter()
    try:
        logged = project.tracker.log_round(_record(project, index))
    except TrackingUnavailable as error:
        project.voice.say(f"  tracking  not now: {error} (kept, and sent by the next run)")
        return
    workspace.write_json(marker, asdict(logged))
    project.voice.say(f"  {'track':<9} {time.perf_counter() - began:6.1f} s")


def _record(project: Project, index: int) -> RoundRecord:
    workspace = project.workspace
    metrics = workspace.read_json(round_key(index, "metrics.json"))
    earlier = [workspace.read_json(round_key(i, "metrics.json")) for i in range(index)]
    plain = ("test_accuracy", "held_out_accuracy", "r_avg", "ood_auroc", "ood_fpr95", "threshold")
    counts = ("listed", "scored", "quarantined", "labeled_total", "query_size", "marked_ood", "bank_points")
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
        params=config_params(project.config),
        metrics={name: float(value) for name, value in values.items()},
        artefacts=files,
        model=model,
        best=all(_goodness(metrics) > _goodness(other) for other in earlier),
    )


def _goodness(metrics: Mapping[str, Any]) -> float:
    """What makes a model the best so far: test accuracy, or held-out accuracy without a test set."""
    found = metrics["test_accuracy"] if metrics["test_accuracy"] is not None else metrics["held_out_accuracy"]
    return -1.0 if found is None else float(found)
