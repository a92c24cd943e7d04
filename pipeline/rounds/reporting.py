"""The report step: view, plots, page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.config.project import Config
from pipeline.pool.snapshot import Snapshot
from pipeline.report import histogram as pool_view
from pipeline.report import thumbnails as gallery
from pipeline.report.histogram import PoolView
from pipeline.report.plots import plots
from pipeline.report.round_page import render
from pipeline.report.round_view import Histogram, QueryCard, ReportView, RoundLine
from pipeline.rounds.metrics import metrics_of
from pipeline.rounds.work import Work
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.keys import oracle_answers_key, round_key


def view_of(
    workspace: Workspace,
    index: int,
    config: Config,
    snapshot: Snapshot,
    view: PoolView,
    metrics: Mapping[str, Any],
) -> ReportView:
    """What the report of a round shows."""
    query = workspace.read_table(round_key(index, keys.QUERY)).to_pylist()
    pictures = gallery.thumbnails(query, snapshot, config)
    answers: dict[str, str] = {}
    if workspace.exists(oracle_answers_key(index)):
        rows = workspace.read_table(oracle_answers_key(index)).to_pylist()
        answers = {row["id"]: row["label"] or row["status"] for row in rows}
    reasons: dict[tuple[str, str], int] = {}
    for table in workspace.tables(round_key(index, keys.QUARANTINE), ["stage", "reason"]):
        for row in table.to_pylist():
            kind = row["stage"], row["reason"].partition(":")[0]  # what follows may be different in every row
            reasons[kind] = reasons.get(kind, 0) + 1
    lines = [workspace.read_json(round_key(i, keys.METRICS)) for i in range(index)] + [metrics]
    names = ("labeled_total", "test_accuracy", "r_avg", "ood_auroc", "ood_fpr95")
    slopes = workspace.read_json(round_key(index, keys.SLOPES))
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


def _report(work: Work) -> None:
    if work.done(keys.REPORT):
        return
    with work.timed("report"):
        view = pool_view.view_scores(
            work.folder,
            work.config.scoring.column,
            work.truth,
            work.labels.answered(),
        )
        metrics = metrics_of(work.workspace, work.index, work.config, work.labels, view)
        work.workspace.write_json(work.key(keys.METRICS), metrics)
        page = view_of(work.workspace, work.index, work.config, work.snapshot, view, metrics)
        for name, png in plots(page).items():
            work.workspace.store.put(work.key(keys.plot_key(name)), png)
        work.workspace.store.put(work.key(keys.REPORT), render(page).encode())
