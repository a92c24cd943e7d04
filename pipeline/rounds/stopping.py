"""When there have been rounds enough: a label budget, a target, a plateau, working time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.project import Config
from pipeline.config.sections import Stop
from pipeline.labels.batches import batches, read_labels
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.frozen import latest
from pipeline.workspace.keys import round_key

NOISE = 1.645  # standard errors: a gain below happens by chance in one case of twenty


@dataclass(frozen=True)
class Measured:
    """How good a round's classifier is: on the test set, or on the held-out labels where there is none."""

    accuracy: float
    images: int


def reason_to_stop(workspace: Workspace, config: Config) -> str | None:
    """Why no further round should start, in words; None if one may."""
    rule = config.stop
    if rule == Stop():
        return None
    committed = workspace.committed()
    if rule.labels is not None:
        answers = answers_so_far(workspace, config)
        if answers >= rule.labels:
            return f"{answers} answers spend the budget of {rule.labels} (stop.labels)"
    metrics = [workspace.read_json(round_key(index, keys.METRICS)) for index in range(committed)]
    if rule.hours is not None:
        hours = sum(sum(one["seconds"].values()) for one in metrics) / 3600
        if hours >= rule.hours:
            return f"the rounds have worked for {hours:.1f} hours (stop.hours: {rule.hours:g})"
    history = [found for index in range(committed) if (found := measured(workspace, index, metrics[index]))]
    return _good_enough(history, rule) if history else None


def answers_so_far(workspace: Workspace, config: Config) -> int:
    """How many ids have an answer now, of whatever kind."""
    taxonomy = latest(workspace, config).taxonomy
    return len(read_labels(workspace, batches(workspace), taxonomy).answered())


def measured(workspace: Workspace, index: int, metrics: Mapping[str, Any]) -> Measured | None:
    """The accuracy of a committed round and of how many images it is; None where nothing was held out."""
    if metrics["test_accuracy"] is not None:
        images = workspace.read_json(round_key(index, keys.EVALUATION))["images"]
        return Measured(metrics["test_accuracy"], images)
    if metrics["held_out_accuracy"] is None:
        return None
    training = workspace.read_json(round_key(index, keys.MODEL_RECORD))["training"]
    return Measured(metrics["held_out_accuracy"], training["held_out"])


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
