"""Where and whom to kill: named points along a round, at the boundary of every stage and inside it.

A point is `ROUND.MOMENT+MILLISECONDS:VICTIM`, such as `0.checkpoint+250:train-worker`: so long after the moment was
seen. A moment is the appearance of an artefact, and `start` that of the process; one that is long past when the
command is started again counts from when its Ray stands.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass

# Of round {r}, in the order of a round; {n} is the next one. An artefact is any key that begins so.
MOMENTS: Mapping[str, str] = {
    "start": "",
    "pool": "rounds/{r}/pool/",
    "labeled": "rounds/{r}/labeled.parquet",
    "plan": "rounds/{r}/plan.json",
    "checkpoint": "train/round-{r}-",  # see `happened`
    "weights": "rounds/{r}/model/model.safetensors",
    "model": "rounds/{r}/model/model.json",
    "evaluation": "rounds/{r}/evaluation.json",
    "trial": "tune/round-{r}-",
    "slopes": "rounds/{r}/slopes.json",
    "bank": "rounds/{r}/bank.safetensors",
    "part": "rounds/{r}/parts/",
    "scores": "rounds/{r}/scores/",
    "account": "rounds/{r}/account.json",
    "query": "rounds/{r}/query.parquet",
    "answers": "labels/{n}-round-{r}.parquet",
    "metrics": "rounds/{r}/metrics.json",
    "report": "rounds/{r}/report.html",
    "commit": "rounds/{r}/commit.json",
    "round": "rounds/{r}/round.json",
    "tracking": "rounds/{r}/tracking.json",
}
ORDER = {name: place for place, name in enumerate(MOMENTS)}
INSIDE = {"checkpoint": "/checkpoint_", "trial": "-finished/"}  # what such a key holds beside its beginning

HEAD = ("driver", "raylet", "gcs", "agent")  # with one of these the command ends and has to be given again
VICTIMS = (*HEAD, "train-worker", "train-controller", "trial", "reader", "scorer", "worker")
# Who is at work after a moment, beside the driver and Ray's own processes.
AT_WORK: Mapping[str, tuple[str, ...]] = {
    "plan": ("train-worker", "train-controller", "worker"),
    "checkpoint": ("train-worker", "train-controller"),
    "model": ("worker",),
    "evaluation": ("trial", "worker"),
    "trial": ("trial",),
    "bank": ("reader", "scorer", "worker"),
    "part": ("scorer", "worker"),
}
MOST_WORKERS = 2  # killed at one moment: Ray Train gives up after `train.retries`


@dataclass(frozen=True)
class Point:
    """One kill."""

    round: int
    moment: str
    after_ms: int
    victim: str

    @classmethod
    def parse(cls, text: str) -> Point:
        """From its name; round 0, no delay and the driver where nothing is said."""
        found = re.fullmatch(r"(?:(\d+)\.)?([a-z]+)(?:\+(\d+))?(?::([a-z-]+))?", text)
        if found is None or found[2] not in MOMENTS or (found[4] or "driver") not in VICTIMS:
            raise SystemExit(f"{text!r} is no point; see --list")
        return cls(int(found[1] or 0), found[2], int(found[3] or 0), found[4] or "driver")

    def __str__(self) -> str:
        return f"{self.round}.{self.moment}+{self.after_ms}:{self.victim}"

    @property
    def place(self) -> tuple[int, int]:
        """Where along the run: round and moment."""
        return self.round, ORDER[self.moment]


def happened(keys: Collection[str], round_: int, moment: str) -> bool:
    """Whether a moment of a round is past, by the keys that are there."""
    begins = MOMENTS[moment].format(r=f"{round_:03d}", n=f"{round_ + 1:03d}")
    inside = INSIDE.get(moment, "")
    return any(key.startswith(begins) and inside in key for key in keys)


def worth_a_look(round_: int, keys: Container[str]) -> Iterator[str]:
    """Below which keys of a round may appear next, given those that are there."""
    here = f"rounds/{round_:03d}/"
    yield here
    if f"{here}plan.json" in keys and f"{here}model/model.json" not in keys:
        yield f"train/round-{round_:03d}-"
    if f"{here}evaluation.json" in keys and f"{here}slopes.json" not in keys:
        yield f"tune/round-{round_:03d}-"
    if f"{here}query.parquet" in keys:
        yield f"labels/{round_ + 1:03d}-"


def every(rounds: int) -> list[Point]:
    """The driver at every boundary, and whoever is at work inside every stage that has workers."""
    found = []
    for index in range(rounds):
        for moment in MOMENTS:
            found.append(Point(index, moment, 0, "driver"))
            found += [Point(index, moment, 0, victim) for victim in AT_WORK.get(moment, ())]
    return found


def sample(
    rng: random.Random, count: int, rounds: int, lasts: Mapping[tuple[int, str], float]
) -> list[Point]:
    """Random points in the order in which a run meets them.

    Args:
        rng: makes the choice repeatable.
        count: how many.
        rounds: of the run.
        lasts: seconds from a (round, moment) to the next one in an uninterrupted run; longer ones are met more often.
    """
    places = [(index, moment) for index in range(rounds) for moment in MOMENTS]
    # Half by how long a stage lasts, half by stages: short ones want to be met too.
    weights = [0.5 / len(places) + 0.5 * lasts.get(p, 0.0) / max(sum(lasts.values()), 1e-9) for p in places]
    found: list[Point] = []
    while len(found) < count:
        index, moment = rng.choices(places, weights)[0]
        at_work = AT_WORK.get(moment, ())
        victim = (
            rng.choice(at_work) if at_work and rng.random() < 0.6 else rng.choices(HEAD, (12, 4, 2, 1))[0]
        )
        workers = sum((p.round, p.moment) == (index, moment) and p.victim not in HEAD for p in found)
        if victim not in HEAD and workers >= MOST_WORKERS:
            continue
        long = 8.0 if moment == "start" else lasts.get((index, moment), 0.5)
        # At the boundary itself, or anywhere inside.
        after = 0 if rng.random() < 0.3 else int(1000 * rng.uniform(0, long))
        found.append(Point(index, moment, after, victim))
    return sorted(found, key=lambda p: (*p.place, p.after_ms))
