"""The report step: metrics, view, plots, page."""

from __future__ import annotations

from collections import Counter

from pipeline.errors import mask
from pipeline.report.histogram import ScoreSummary, summarize_scores
from pipeline.report.plots import plots
from pipeline.report.round_page import TOP_UNREADABLE, render
from pipeline.report.round_view import Histogram, QueryCard, ReportView, RoundLine
from pipeline.report.thumbnails import thumbnails
from pipeline.rounds import steps
from pipeline.rounds.measuring import measure
from pipeline.rounds.stored import StoredRound
from pipeline.rounds.work import Work
from pipeline.workspace import keys
from pipeline.workspace.folder import Folder
from pipeline.workspace.frozen import changed_since
from pipeline.workspace.metrics import Metrics
from pipeline.workspace.records import Evaluation, SlopeSearch


def report(work: Work) -> None:
    """Write the metrics of the round, and a page for people."""
    if work.done(steps.REPORT):
        return
    with work.timed(steps.REPORT.name):
        answered = work.labels.answered()
        view = summarize_scores(work.folder, work.config.scoring.column, truth=work.truth, labeled=answered)
        metrics = measure(work.round, work.labels, view)
        metrics.write(work.folder)
        page = view_of(work.round, metrics, view)
        for name, png in plots(page).items():
            work.folder.put(keys.plot_key(name), png)
        work.folder.put(keys.REPORT, render(page).encode())


def view_of(stored: StoredRound, metrics: Metrics, view: ScoreSummary) -> ReportView:
    """Return what the report of a round shows."""
    folder, config = stored.folder, stored.config
    query = folder.read_table(keys.QUERY).to_pylist()
    pictures = thumbnails(query, stored.snapshot, config)
    answers = _answers(stored)
    earlier = [Metrics.read(Folder.of_round(stored.workspace, index)) for index in range(stored.index)]
    slopes = SlopeSearch.read(folder)
    return ReportView(
        project=config.workspace.rstrip("/").rpartition("/")[2],
        index=stored.index,
        rounds=tuple(_line(one) for one in (*earlier, metrics)),
        metrics=metrics.model_dump(mode="json"),
        score=config.scoring.score,
        threshold=metrics.threshold,
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
        labels=metrics.labels_per_class,
        other_answers=metrics.refused,
        quarantine=_quarantine(folder),
        slopes=slopes.slopes,
        slopes_note=slopes.note,
        default_r_avg=slopes.default_r_avg,
        changes=tuple(
            (index, str(change))
            for index in range(stored.index + 1)
            for change in changed_since(stored.workspace, index)
        ),
        test_unreadable=tuple(
            (row.id, mask(row.uri), row.reason)
            for row in Evaluation.read(folder).unreadable_images[:TOP_UNREADABLE]
        ),
    )


def _line(metrics: Metrics) -> RoundLine:
    return RoundLine(
        metrics.round,
        metrics.labeled_total,
        metrics.test_accuracy,
        metrics.r_avg,
        metrics.ood_auroc,
        metrics.ood_fpr95,
    )


def _answers(stored: StoredRound) -> dict[str, str]:
    """Return the simulated oracle's answers to the query by id."""
    key = keys.oracle_answers_key(stored.index)
    if not stored.workspace.exists(key):
        return {}
    rows = stored.workspace.read_table(key).to_pylist()
    return {row["id"]: row["label"] or row["status"] for row in rows}


def _quarantine(folder: Folder) -> tuple[tuple[str, str, int], ...]:
    """Count the quarantined rows by stage and kind of reason."""
    counts: Counter[tuple[str, str]] = Counter()
    for table in folder.tables(keys.QUARANTINE, ["stage", "reason"]):
        for row in table.to_pylist():
            kind = row["reason"].partition(":")[0]  # what follows may be different in every row
            counts[row["stage"], kind] += 1
    return tuple((stage, kind, count) for (stage, kind), count in sorted(counts.items()))
