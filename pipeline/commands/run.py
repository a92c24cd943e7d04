"""`sisom run`."""

from __future__ import annotations

from pipeline.config.project import Config
from pipeline.rounds.loop import enough_rounds, go_on, new_labels, nothing_left, opened
from pipeline.voice import Voice


def run(config: Config, voice: Voice, *, rounds: int | None = None) -> int:
    """Run rounds until enough are committed; return how many were done.

    `rounds` is how many are enough, by default the config's.

    Safe to call again after anything: finished work is found, not done again.

    Raises:
        UserError, WaitingForLabels, LeaseHeld, SystemFault: see `pipeline.errors`.
    """
    wanted = rounds if rounds is not None else config.rounds
    with opened(config, voice) as project:
        workspace = project.workspace
        first = workspace.committed()
        if first >= wanted:
            voice.say(f"{first} of {wanted} rounds are committed in {config.workspace}: nothing to do")
            return 0
        if first and nothing_left(workspace, first - 1) and not new_labels(project.label_files, first - 1):
            voice.say(
                f"round {first - 1:03d} found nothing left to ask about, and no labels came since: nothing to do"
            )
            return 0
        if (enough := enough_rounds(project)) is not None:
            voice.say(f"{enough}: nothing to do")
            return 0
        return go_on(project, first, wanted)
