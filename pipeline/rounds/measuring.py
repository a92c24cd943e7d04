"""The metrics of a round, taken from what its steps have left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.labels.tally import Labels
from pipeline.learn.split import threshold_rows
from pipeline.report.histogram import ScoreSummary
from pipeline.rounds.stored import StoredRound
from pipeline.workspace import keys
from pipeline.workspace.folder import Folder
from pipeline.workspace.metrics import Metrics
from pipeline.workspace.records import Account, Evaluation, ModelRecord, Timing


def measure(stored: StoredRound, labels: Labels, view: ScoreSummary) -> Metrics:
    """Return the metrics of a round that has asked its query.

    Args:
        stored: the round.
        labels: the answers that it has learned from.
        view: of the pool's scores.
    """
    folder, bank, taxonomy = stored.folder, stored.bank, stored.config.taxonomy
    evaluation, account = Evaluation.read(folder), Account.read(folder)
    timings = _timings(folder)
    labeled = folder.read_table(keys.LABELED)
    counts = Counter(labels.counts()) + _outside(labeled, labels, taxonomy)
    held = np.asarray(labeled["held_out"].to_pylist())
    judges = threshold_rows(held)
    began_with = len(stored.plan.config["taxonomy"])
    joined = taxonomy[began_with:]
    known = taxonomy[: len(taxonomy) - len(joined)]
    return Metrics(
        round=stored.index,
        listed=account.listed,
        scored=account.scored,
        quarantined=account.quarantined,
        test_accuracy=evaluation.accuracy,
        open_accuracy=evaluation.open_accuracy,
        test_images=None if evaluation.accuracy is None else evaluation.images,
        test_unreadable=evaluation.unreadable,
        per_class_accuracy=evaluation.per_class,
        known_accuracy=_mean(evaluation.per_class, known),
        joined_accuracy=_mean(evaluation.per_class, joined),
        classes=len(taxonomy),
        classes_joined=joined,
        proposed=labels.proposed(),
        held_out_accuracy=ModelRecord.read(folder).training.held_out_accuracy,
        r_avg=bank.r_avg,
        threshold=bank.threshold,
        threshold_rows=len(judges),
        threshold_from="held-out" if held[judges].all() else "all labeled",
        bank_points=len(bank.labels),
        slopes=stored.slopes,
        ood_auroc=view.ood_auroc,
        ood_fpr95=view.ood_fpr95,
        marked_ood=view.is_ood,
        labeled_total=sum(counts.values()),
        labels_per_class={name: counts.get(name, 0) for name in taxonomy},
        refused=labels.refused(),
        query_size=len(stored.asked),
        far_from=stored.far_from,
        query_precision=_precision(stored, labels),
        seconds={name: timing.seconds for name, timing in timings.items()},
        images_per_s={name: t.images / t.seconds for name, t in timings.items() if t.images},
    )


def _outside(labeled: pa.Table, labels: Labels, taxonomy: Sequence[str]) -> Counter[str]:
    """Count the rows of labeled sets by class.

    Those that were answered again count among the answers.
    """
    if "set" not in labeled.column_names:
        return Counter()
    answered = labels.answered()
    rows = zip(*(labeled[name].to_pylist() for name in ("id", "target", "set")), strict=True)
    return Counter(taxonomy[target] for name, target, number in rows if number >= 0 and name not in answered)


def _timings(folder: Folder) -> dict[str, Timing]:
    names = folder.names(keys.TIMINGS)
    return {
        name.removeprefix(keys.TIMINGS).removesuffix(".json"): Timing.model_validate(folder.read_json(name))
        for name in names
    }


def _mean(per_class: Mapping[str, float], names: Iterable[str]) -> float | None:
    """Mean accuracy over some classes; None where none of them is tested."""
    accuracies = [per_class[name] for name in names if name in per_class]
    return sum(accuracies) / len(accuracies) if accuracies else None


def _precision(stored: StoredRound, labels: Labels) -> float | None:
    """Return the share of the last query's answers of this world.

    None in the first round, or without answers to the last query.
    """
    if stored.index == 0:
        return None
    last = Folder.of_round(stored.workspace, stored.index - 1)
    asked = last.read_table(keys.QUERY, ["id"])["id"]
    answers = Counter(
        labels.table.filter(pc.is_in(labels.table["id"], asked.combine_chunks()))["status"].to_pylist()
    )
    judged = answers["labeled"] + answers["unknown-class"] + answers["out-of-world"]
    return 1 - answers["out-of-world"] / judged if judged else None
