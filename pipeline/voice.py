"""Progress for people: a bar on a terminal, plain lines elsewhere.

MLflow gets the same numbers.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline.errors import printable

LINE_EVERY_S = 10.0
WINDOW_S = 30.0  # that a rate is measured over: long enough to be steady, short enough to tell of a change
PUBLISH_EVERY_S = 15.0
LAST_WORD_S = 5.0  # at most that the end of the work waits for its numbers to be published

Publish = Callable[[Mapping[str, float], int], None]


class Voice:
    """A writer of messages to stderr; stdout is for results."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Write a line; text from data is not markup."""
        self.console.print(printable(text), markup=False)

    @contextmanager
    def counting(
        self, what: str, total: int, *, before: int = 0, publish: Publish | None = None
    ) -> Iterator[Counter]:
        """Count images, and show the count while the block runs.

        Args:
            what: the name of the work.
            total: all images of the work, those that are done already among them.
            before: how many an earlier run has done.
            publish: told `Counter.numbers()` and how many images are done, every `PUBLISH_EVERY_S` at most and
                once more in the end, in a thread of its own. It may be slow, and it may fail, which is said once:
                the work does not notice.
        """
        counter = Counter(self, what, total, before=before)
        with counter.shown(), _published(counter, publish, self):
            yield counter


class Pace:
    """Images per second over the last `WINDOW_S` seconds.

    The first mark starts the clock, so start-up is left out.
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def mark(self, now: float, done: int) -> None:
        """Record that `done` images are done; keeps one mark a second."""
        marks = self._marks
        if len(marks) > 1 and now - marks[-2][0] < 1:
            marks.pop()
        marks.append((now, done))
        while len(marks) > 2 and marks[1][0] <= now - WINDOW_S:
            marks.popleft()

    def rate(self, now: float) -> float | None:
        """Return images per second; None until there are two marks."""
        if len(self._marks) < 2 or now <= self._marks[0][0]:
            return None
        (began, first), (_, last) = self._marks[0], self._marks[-1]
        return (last - first) / (now - began)


class Counter:
    """The progress of a long piece of work.

    `done` and `bad` count this run's images alone.
    """

    def __init__(self, voice: Voice, what: str, total: int, *, before: int) -> None:
        self._voice = voice
        self._what = what
        self._total = total
        self._before = before
        self._began = self._said = time.monotonic()
        self._pace = Pace()
        self._lock = threading.Lock()
        self._bar: Progress | None = None
        self.done = 0
        self.bad = 0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw a bar if stderr is a terminal."""
        if not self._voice.console.is_terminal:
            yield
            return
        text = (TextColumn(f"{{task.{name}}}", markup=False) for name in ("description", "fields[facts]"))
        columns = (next(text), BarColumn(), next(text), TimeElapsedColumn())
        with Progress(*columns, console=self._voice.console, transient=True) as bar:
            self._bar = bar
            self._task = bar.add_task(f"    {self._what}", total=self._total, facts=self._facts(self._began))
            bar.update(self._task, completed=self._before)
            try:
                yield
            finally:
                self._bar = None

    def add(self, done: int, bad: int = 0) -> None:
        """Count `done` more images, `bad` of them quarantined."""
        now = time.monotonic()
        with self._lock:
            first = self.done == 0 < done
            self.done += done
            self.bad += bad
            if self.done:
                self._pace.mark(now, self.done)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._through, facts=self._facts(now))
        elif first:
            self._said = now
            before = f"; {self._before:,} of {self._total:,} were done before" if self._before else ""
            self._voice.say(f"    {self._what}: first images after {_span(now - self._began)}{before}")
        elif now - self._said >= LINE_EVERY_S:
            self._said = now
            self._voice.say(f"    {self._what}: {self._facts(now)}")

    def numbers(self) -> tuple[dict[str, float], int]:
        """Return the numbers by name, and how many images are done.

        The names are `listed`, `scored`, `quarantined` and, once known, `images_per_s`.
        """
        with self._lock:
            rate = self._pace.rate(time.monotonic())
            through, bad = self._through, self.bad
        numbers = {
            "listed": float(self._total),
            "scored": float(max(through - bad, 0)),
            "quarantined": float(bad),
        }
        return numbers if rate is None else {**numbers, "images_per_s": rate}, through

    @property
    def _through(self) -> int:
        return min(self._before + self.done, self._total)  # an image may come twice when a worker dies

    def _facts(self, now: float) -> str:
        rate, left = self._pace.rate(now), self._total - self._through
        facts = [f"{self._through:,} of {self._total:,}"]
        if rate is not None:
            facts.append(f"{rate:,.0f} images/s")
        if self.bad:
            facts.append(f"{self.bad:,} quarantined")
        if rate and left:
            facts.append(f"{_span(left / rate)} left")
        return ", ".join(facts)


def _span(seconds: float) -> str:
    """Write a length of time as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


@contextmanager
def _published(counter: Counter, publish: Publish | None, voice: Voice) -> Iterator[None]:
    """Publish the numbers from a thread while the block runs.

    There is one call at a time, and the block waits for none.
    """
    if publish is None:
        yield
        return
    over = threading.Event()

    def work(publish: Publish) -> None:
        published, failed = 0, False
        while True:
            last = over.wait(PUBLISH_EVERY_S)
            numbers, step = counter.numbers()
            if step > published and counter.done:
                try:
                    publish(numbers, step)
                    published = step
                except Exception as error:  # noqa: BLE001 - whatever it is, it is not the work's
                    if not failed:
                        voice.say(f"    live numbers: not now: {_one_line(error)}")
                    failed = True
            if last:
                return

    thread = threading.Thread(target=work, args=(publish,), name="live-numbers", daemon=True)
    thread.start()
    try:
        yield
        over.set()
        thread.join(LAST_WORD_S)
    finally:
        over.set()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
