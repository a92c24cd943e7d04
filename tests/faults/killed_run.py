"""One run that is killed again and again, and started again until its rounds are done."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.faults.ground import Ground
from tests.faults.points import HEAD, MOMENTS, ORDER, Point, happened, worth_a_look
from tests.faults.victims import kill_one, sweep
from tests.support.progress_wait import Hang, Progress, finished

ABSENT_S = 2.0  # that a victim is waited for
STANDS = "Ray with "  # what the command says when its Ray stands
GOES_ON = ("training went on after epoch", "trials were finished before", "were done before")  # shards

# Set when nobody is to be killed any more: runs go on to their end, and are compared.
OVER = threading.Event()

Say = Callable[[str], None]


@dataclass
class Kill:
    """A kill that was carried out, and what came of it."""

    point: Point
    title: str
    went_on: bool = True  # without the command being given again
    survived: bool = True


@dataclass
class Outcome:
    """What became of a run."""

    kind: str
    kills: list[Kill] = field(default_factory=list)
    absent: list[Point] = field(default_factory=list)  # nobody of that kind was at work
    stands_s: list[float] = field(default_factory=list)  # from restart to a standing Ray
    work_s: list[float] = field(default_factory=list)  # from restart to the first new artefact
    goes_on: Counter[str] = field(default_factory=Counter)  # attempts that went on inside a stage
    wrong: str = ""
    moments: dict[tuple[int, str], float] = field(default_factory=dict)  # seconds from the last start

    def as_json(self) -> dict[str, Any]:
        """For a file of results."""
        kills = [{**asdict(kill), "point": str(kill.point)} for kill in self.kills]
        return {
            "storage": self.kind, "kills": kills, "absent": [str(point) for point in self.absent],
            "stands_s": self.stands_s, "work_s": self.work_s, "goes_on": dict(self.goes_on), "wrong": self.wrong,
        }  # fmt: skip


class KilledRun:
    """A run of `ground`'s command under a name of its own, with points at which somebody is killed."""

    def __init__(
        self, ground: Ground, name: str, points: Sequence[Point], rng: random.Random, say: Say
    ) -> None:
        self.ground = ground
        self.name = name
        self.home: Path = ground.home(name)
        self.outcome = Outcome(ground.kind)
        self._todo = deque(points)
        self._rng = rng
        self._say = say
        self._store = ground.store(name)
        self._keys: set[str] = set()
        self._pause = 0.03 if ground.kind == "local" else 0.15

    def run(self) -> Outcome:
        """Through to the end; what cannot be survived is told in `wrong`."""
        number = 0
        try:
            while True:
                number += 1
                before = len(self.outcome.kills)
                status = self._attempt(number)
                mine = self.outcome.kills[before:]
                if self.outcome.wrong:
                    break
                if status == 0:
                    self.outcome.absent += self._todo
                    break
                for kill in mine[-1:]:
                    kill.went_on = False
                if not mine:
                    words = self._last_words(number)
                    self._fail(f"attempt {number}, in which nobody was killed, ended with {status}: {words}")
                    break
        finally:
            sweep(self.home)
        if self.outcome.wrong:
            for kill in self.outcome.kills:
                kill.survived = False
        return self.outcome

    def _fail(self, why: str) -> None:
        self.outcome.wrong = why
        self._say(f"{self.name}: {why}")

    def log(self, number: int) -> Path:
        """What an attempt said."""
        return self.home / f"attempt-{number:03d}.log"

    def _last_words(self, number: int) -> str:
        return " | ".join(self.log(number).read_text(errors="replace").splitlines()[-3:])[-400:]

    def _look(self) -> frozenset[str]:
        """The keys that were ever seen; only where new ones may appear is looked, since a server has other work."""
        for index in range(self.ground.rounds):
            if f"rounds/{index:03d}/tracking.json" not in self._keys:
                for prefix in worth_a_look(index, self._keys):
                    self._keys |= {entry.key for entry in self._store.list(prefix)}
                break
        return frozenset(self._keys)

    def _attempt(self, number: int) -> int:
        """Give the command once, and kill whoever is due; gives its exit status."""
        environment = self.ground.environment(self.name)
        old = self._look()
        with self.log(number).open("wb") as log:
            process = subprocess.Popen(
                self.ground.command(self.name), cwd=self.home, env=environment, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        watch = _Watch(old, time.monotonic(), self.log(number))
        folders = [self.home, self.ground.folder / "w" / self.name]
        progress = Progress(process, folders)
        try:
            while process.poll() is None:
                watch.look(self._look())
                if OVER.is_set():
                    self._todo.clear()
                progress.note("artefacts", watch.changed)
                if progress.hangs():
                    self._fail(
                        f"attempt {number} hangs after {[str(k.point) for k in self.outcome.kills[-2:]]}"
                    )
                    break
                if self._strike(process, watch):
                    break
                time.sleep(self._pause)
            if not self.outcome.wrong:
                finished(process, folders=folders)
            status = -1 if self.outcome.wrong else process.returncode
        except Hang:
            self._fail(f"the command did not end after {self.outcome.kills[-1].title} was killed")
            status = -1
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        watch.look(self._look())
        told = self.log(number).read_text(errors="replace")
        self.outcome.goes_on.update(words for words in GOES_ON if words in told)
        if number > 1 and watch.stands is not None:
            self.outcome.stands_s.append(watch.stands - watch.began)
        if number > 1 and watch.work is not None:
            self.outcome.work_s.append(watch.work - watch.began)
        self.outcome.moments = {place: at - watch.began for place, at in watch.seen.items()}
        return status

    def _strike(self, process: subprocess.Popen[bytes], watch: _Watch) -> bool:
        """Carry out the next kill if it is due; true when the command has to end by it."""
        if not self._todo or not watch.due(self._todo[0]):
            return False
        point = self._todo[0]
        if point.victim == "driver":
            process.kill()
            title: str | None = "driver"
        else:
            title = kill_one(point.victim, self.home, self._rng)
        if title is None:
            if watch.late(point) > ABSENT_S:
                self.outcome.absent.append(self._todo.popleft())
            return False
        self._todo.popleft()
        self.outcome.kills.append(Kill(point, title))
        self._say(f"{self.ground.kind} {self.name}: {point} {title}")
        watch.changed = time.monotonic()
        return point.victim in HEAD


class _Watch:
    """What can be seen of an attempt from outside."""

    def __init__(self, old: frozenset[str], began: float, log: Path) -> None:
        self._old = old
        self._keys = old
        self._log = log
        self.began = began
        self.changed = began
        self.stands: float | None = None
        self.work: float | None = None
        self.seen: dict[tuple[int, str], float] = {}

    def look(self, keys: frozenset[str]) -> None:
        """Note what has appeared."""
        now = time.monotonic()
        if self.stands is None and STANDS in self._log.read_text(errors="replace"):
            self.stands = self.changed = now
        if keys != self._keys:
            self.changed = now
        if self.work is None and keys - self._old:
            self.work = now
        self._keys = keys
        for index in {int(key.split("/")[1]) for key in keys if key.startswith("rounds/")} | {0}:
            for moment in MOMENTS:
                place = (index, moment)
                if moment == "start":
                    self.seen.setdefault(place, self.began)
                elif place not in self.seen and happened(keys, index, moment):
                    if not happened(self._old, index, moment):
                        self.seen[place] = now
                    elif self.stands is not None:
                        self.seen[place] = self.stands

    def late(self, point: Point) -> float:
        """For how long a point has been due, in seconds; negative before."""
        at = self.seen.get((point.round, point.moment))
        return -1.0 if at is None else time.monotonic() - at - point.after_ms / 1000

    def due(self, point: Point) -> bool:
        """Whether its time has come."""
        return self.late(point) >= 0


def lasts(moments: dict[tuple[int, str], float]) -> dict[tuple[int, str], float]:
    """How long each stage took, by the moments of an uninterrupted run."""
    order = sorted(moments, key=lambda place: (place[0], ORDER[place[1]]))
    return {place: max(0.0, moments[after] - moments[place]) for place, after in pairwise(order)}
