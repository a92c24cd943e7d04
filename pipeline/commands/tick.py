"""One scheduled step, for cron and its like: is there reason to work, and which?

Looking for a reason needs no Ray. Called as often as one likes: a step without reason changes nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import datetime

from pipeline.commands.drift import drift, growth
from pipeline.config.project import Config
from pipeline.errors import ArtefactMissing, WaitingForLabels
from pipeline.labels.batches import batches, read_labels
from pipeline.rounds.loop import go_on, new_labels, opened
from pipeline.rounds.stopping import reason_to_stop
from pipeline.voice import Voice
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.frozen import latest
from pipeline.workspace.keys import round_key


def tick(config: Config, voice: Voice, clock: Callable[[], float] = time.time) -> int:
    """Take in the labels that came, and start or finish one round if there is reason; gives how many were done.

    `clock` gives seconds since 1970: what waits for time waits for this one.

    Raises:
        WaitingForLabels: the open query is not answered enough.
        LeaseHeld: another run works here.
        UserError, SystemFault: see `pipeline.errors`.
    """
    with opened(config, voice, clock) as project:
        workspace = project.workspace
        reason = reason_to_work(workspace, config, now=clock())
        if reason is None:
            enough = reason_to_stop(workspace, config)
            voice.say(f"{config.workspace}: {f'{enough}: ' if enough else ''}nothing to do")
            return 0
        voice.say(f"tick: {reason}")
        first = workspace.committed()
        return go_on(project, first, first + 1)


def reason_to_work(workspace: Workspace, config: Config, *, now: float) -> str | None:
    """Why a round should be started or finished at `now` (seconds since 1970), in words; None without reason.

    Raises:
        WaitingForLabels: the open query is not answered enough.
        LabelError: a label file that does not hold labels.
    """
    index = workspace.committed()
    taxonomy = latest(workspace, config).taxonomy
    answers = read_labels(workspace, batches(workspace), taxonomy)  # all are checked, at every tick
    if workspace.exists(round_key(index, keys.PLAN)):
        return f"round {index:03d} was interrupted"
    if index == 0:
        return "no round is committed yet"
    if index >= config.rounds or reason_to_stop(workspace, config) is not None:
        return None
    last = index - 1
    hours = (now - _committed_at(workspace, last)) / 3600
    asked = workspace.read_table(round_key(last, keys.QUERY), ["id"])["id"].to_pylist()
    if asked:
        got = len(answers.heard().intersection(asked))  # a tie is asked about anew by the next round
        return _answered(workspace, config, last, got, len(asked), hours)
    if new_labels(workspace, last):
        return f"labels came since round {last:03d}"
    found = growth(workspace, config, last)
    if found.share >= config.tick.pool_growth:
        return f"the pool has grown by {found.share:.1%} since round {last:03d}"
    if config.tick.max_age_h is not None and hours >= config.tick.max_age_h:
        return f"round {last:03d} is {hours:.0f} hours old"
    if config.tick.drift_p is not None and (tested := drift(workspace, config, last, found)) is not None:
        p, images = tested
        if p < config.tick.drift_p:
            return f"the scores of {images} new images differ from those of round {last:03d} (p = {p:.1e})"
    return None


def _answered(workspace: Workspace, config: Config, last: int, got: int, asked: int, hours: float) -> str:
    plan = config.tick
    needed = max(1, math.ceil(plan.answered * asked))
    found = f"{got} of the {asked} questions of round {last:03d} are answered"
    if got >= needed:
        return found
    if got and plan.wait_h is not None and hours >= plan.wait_h:
        return f"{found}, and {hours:.0f} hours are enough to wait"
    place = workspace.store.url(keys.people_answers_key(last))
    query = workspace.store.url(round_key(last, keys.QUERY))
    raise WaitingForLabels(
        f"{found}, {needed} are needed (tick.answered); the query is {query}, answers go to {place}"
    )


def _committed_at(workspace: Workspace, index: int) -> float:
    try:
        at = workspace.read_json(round_key(index, keys.COMMIT))["at"]
    except ArtefactMissing:  # of an earlier version
        return 0.0
    return datetime.fromisoformat(at).timestamp()
