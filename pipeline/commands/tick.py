"""`sisom tick`: a scheduled step, if there is reason for one.

Looking for a reason needs no Ray. Called as often as one likes: a step without reason changes nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.commands.drift import drift, growth
from pipeline.config.project import Config
from pipeline.errors import WaitingForLabels
from pipeline.labels.files import LabelFiles
from pipeline.labels.unheard import unheard
from pipeline.rounds import steps
from pipeline.rounds.loop import go_on, new_labels, opened
from pipeline.rounds.stopping import reason_to_stop
from pipeline.rounds.stored import StoredRound
from pipeline.voice import Voice
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.frozen import latest
from pipeline.workspace.records import Commit


def tick(config: Config, voice: Voice, clock: Callable[[], float] = time.time) -> int:
    """Do one round if there is reason; return how many were done.

    `clock` returns seconds since 1970: what waits for time waits for this one.

    Raises:
        WaitingForLabels: the open query is not answered enough.
        LeaseHeld: another run works here.
        UserError, SystemFault: see `pipeline.errors`.
    """
    with opened(config, voice, clock) as project:
        workspace, files = project.workspace, project.label_files
        reason = reason_to_work(workspace, config, files, now=clock())
        if reason is None:
            enough = reason_to_stop(workspace, config, files)
            voice.say(f"{config.workspace}: {f'{enough}: ' if enough else ''}nothing to do")
            return 0
        voice.say(f"tick: {reason}")
        first = workspace.committed()
        return go_on(project, first, first + 1)


def reason_to_work(workspace: Workspace, config: Config, files: LabelFiles, *, now: float) -> str | None:
    """Return why a round should be started or finished, if it should.

    Args:
        workspace: of the project.
        config: of the project.
        files: its label files; all rows are checked, at every tick.
        now: seconds since 1970.

    Raises:
        WaitingForLabels: the open query is not answered enough.
        LabelError: a label file that does not hold labels.
    """
    index = workspace.committed()
    answers = files.labels(latest(workspace, config).taxonomy)
    if steps.PLAN.done(workspace, index):
        return f"round {index:03d} was interrupted"
    if index == 0:
        return "no round is committed yet"
    if index >= config.rounds or reason_to_stop(workspace, config, files) is not None:
        return None
    last = StoredRound(workspace, index - 1, config)
    hours = (now - _committed_at(last)) / 3600
    gone = answers.withdrawn()
    if asked := [name for name in last.asked if name not in gone]:
        heard = answers.heard()  # a tie is asked about anew by the next round
        silent = "" if heard.intersection(asked) else unheard(files, asked, last.plan.labels)
        return _reason_of_answers(last, _Query(asked, len(heard.intersection(asked)), hours, silent))
    if new_labels(files, last.index):
        return f"labels came since round {last.index:03d}"
    grown = growth(last)
    if grown.share >= config.tick.pool_growth:
        return f"the pool has grown by {grown.share:.1%} since round {last.index:03d}"
    if config.tick.max_age_h is not None and hours >= config.tick.max_age_h:
        return f"round {last.index:03d} is {hours:.0f} hours old"
    if config.tick.drift_p is not None and (tested := drift(last, grown)) is not None:
        p, images = tested
        if p < config.tick.drift_p:
            return (
                f"the scores of {images} new images differ from those of round {last.index:03d} (p = {p:.1e})"
            )
    return None


@dataclass(frozen=True)
class _Query:
    """An open query.

    Its ids, the number answered, its age, and why label files say nothing about it, where some are there.
    """

    asked: Sequence[str]
    answered: int
    hours: float
    silent: str = ""


def _reason_of_answers(last: StoredRound, query: _Query) -> str:
    """Say that the last query is answered enough, or raise `WaitingForLabels`."""
    tick = last.current.tick
    needed = max(1, math.ceil(tick.answered * len(query.asked)))
    answered = f"{query.answered} of the {len(query.asked)} questions of round {last.index:03d} are answered"
    if query.answered >= needed:
        return answered
    if query.answered and tick.wait_h is not None and query.hours >= tick.wait_h:
        return f"{answered}, and {query.hours:.0f} hours are enough to wait"
    place = last.workspace.store.url(keys.people_answers_key(last.index))
    raise WaitingForLabels(
        f"{answered}, {needed} are needed (tick.answered); the query is {last.folder.url(keys.QUERY)}, "
        f"answers go to {place}{query.silent}"
    )


def _committed_at(stored: StoredRound) -> float:
    commit = Commit.find(stored.folder)
    return (
        0.0 if commit is None else datetime.fromisoformat(commit.at).timestamp()
    )  # none: an earlier version's
