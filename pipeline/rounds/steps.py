"""The steps of a round, in order, with their artefacts and functions.

Light workers and `status` read this: it imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pipeline.config.project import Config
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace


@dataclass(frozen=True)
class Step:
    """A step of a round.

    Attributes:
        name: for people, and in `seconds` of the metrics.
        function: does the step; a module of `pipeline.rounds`, and the function in it.
        artefact: what it leaves last; takes the round's index. Where that is there, the step is done.
        manifest: artefacts in the round's folder whose digests `round.json` holds.
    """

    name: str
    function: str
    artefact: Callable[[int], str]
    manifest: tuple[str, ...] = ()

    def done(self, workspace: Workspace, index: int) -> bool:
        """Return whether a round has this step behind it."""
        return workspace.exists(self.artefact(index))


def _leaves(name: str) -> Callable[[int], str]:
    return lambda index: keys.round_key(index, name)


PLAN: Final = Step(
    "plan", "planning.plan", _leaves(keys.PLAN), manifest=(keys.PLAN, keys.LABELED, keys.SHARDS)
)
TRAIN: Final = Step(
    "train", "learning.train_networks", _leaves(keys.MODEL_RECORD), manifest=(keys.MODEL_WEIGHTS,)
)
EVALUATE: Final = Step("evaluate", "learning.judge_network", _leaves(keys.EVALUATION))
SLOPES: Final = Step("slopes", "learning.search_slopes", _leaves(keys.SLOPES), manifest=(keys.SLOPES,))
BANK: Final = Step("bank", "learning.fit_bank", _leaves(keys.BANK), manifest=(keys.BANK,))
SCORE: Final = Step("score", "asking.score", _leaves(keys.ACCOUNT), manifest=(keys.ACCOUNT,))
SELECT: Final = Step("select", "asking.select", _leaves(keys.QUERY), manifest=(keys.FAR_FILTER, keys.QUERY))
ASK: Final = Step("ask", "asking.ask", keys.oracle_answers_key)
REPORT: Final = Step("report", "reporting.report", _leaves(keys.REPORT))
COMMIT: Final = Step("commit", "round.commit", _leaves(keys.ROUND))

STEPS: Final = (PLAN, TRAIN, EVALUATE, SLOPES, BANK, SCORE, SELECT, ASK, REPORT, COMMIT)


def steps_of(config: Config) -> tuple[Step, ...]:
    """Return the steps that write an artefact.

    Asking writes none where people answer, in their own time.
    """
    return tuple(step for step in STEPS if step is not ASK or config.oracle.kind == "simulated")
