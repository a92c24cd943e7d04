"""Reasons to stop: label budget, target, plateau, working time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config.project import Config
from pipeline.config.sections import Stop
from pipeline.labels.files import LabelFiles
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.frozen import latest
from pipeline.workspace.metrics import Metrics
from pipeline.workspace.records import Evaluation, ModelRecord

NOISE = 1.645  # standard errors: a larger gain happens by chance in one case of twenty


@dataclass(frozen=True)
class Measured:
    """A round's accuracy on the test set, or else on held-out labels."""

    accuracy: float
    images: int

    @classmethod
    def of(cls, folder: Folder, metrics: Metrics) -> Measured | None:
        """Read a committed round's accuracy; None if nothing was held out."""
        if metrics.test_accuracy is not None:
            return cls(metrics.test_accuracy, Evaluation.read(folder).images)
        if metrics.held_out_accuracy is None:
            return None
        return cls(metrics.held_out_accuracy, ModelRecord.read(folder).training.held_out)


def reason_to_stop(workspace: Workspace, config: Config, files: LabelFiles) -> str | None:
    """Return why no further round should start; None if one may."""
    rule = config.stop
    if rule == Stop():
        return None
    if rule.labels is not None:
        answers = len(files.labels(latest(workspace, config).taxonomy).answered())
        if answers >= rule.labels:
            return f"{answers} answers spend the budget of {rule.labels} (stop.labels)"
    folders = [Folder.of_round(workspace, index) for index in range(workspace.committed())]
    metrics = [Metrics.read(folder) for folder in folders]
    if rule.hours is not None:
        hours = sum(sum(one.seconds.values()) for one in metrics) / 3600
        if hours >= rule.hours:
            return f"the rounds have worked for {hours:.1f} hours (stop.hours: {rule.hours:g})"
    history = [
        measured
        for folder, one in zip(folders, metrics, strict=True)
        if (measured := Measured.of(folder, one)) is not None
    ]
    return _good_enough(history, rule) if history else None


def _good_enough(history: Sequence[Measured], rule: Stop) -> str | None:
    last = history[-1]
    if rule.accuracy is not None and last.accuracy >= rule.accuracy:
        return f"an accuracy of {last.accuracy:.1%} reaches the target of {rule.accuracy:.1%} (stop.accuracy)"
    if rule.plateau is not None and len(history) > rule.plateau:
        before = max(one.accuracy for one in history[: -rule.plateau])
        recent = max(history[-rule.plateau :], key=lambda one: one.accuracy)
        noise = NOISE * math.sqrt(2 * recent.accuracy * (1 - recent.accuracy) / recent.images)
        if recent.accuracy - before <= noise:
            return (
                f"{rule.plateau} rounds brought {recent.accuracy - before:+.1%} accuracy, no more than the noise of "
                f"{noise:.1%} on {recent.images} images (stop.plateau)"
            )
    return None
