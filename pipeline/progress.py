"""What a person sees while work goes on: a bar on a terminal, plain lines everywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_EVERY_S = 10.0


class Voice:
    """Says what happens, on stderr; stdout is for results."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """One line. Text from data is not markup."""
        self.console.print(text, markup=False)

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Counter]:
        """A counter of `total` images, shown while the block runs."""
        counter = Counter(self, what, total)
        try:
            with counter.shown():
                yield counter
        finally:
            counter.close()


class Counter:
    """How far a long piece of work has got."""

    def __init__(self, voice: Voice, what: str, total: int) -> None:
        self._voice = voice
        self._what = what
        self._total = total
        self._started = self._last = time.monotonic()
        self._bar: Progress | None = None
        self.done = 0
        self.bad = 0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw a bar if somebody watches."""
        if not self._voice.console.is_terminal:
            yield
            return
        columns = (
            TextColumn("    {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(
            *columns,
            TimeRemainingColumn(),
            TextColumn("{task.fields[bad]}"),
            console=self._voice.console,
            transient=True,
        ) as bar:
            self._bar = bar
            self._task = bar.add_task(self._what, total=self._total, bad="")
            yield

    def add(self, done: int, bad: int = 0) -> None:
        """Count `done` more images, `bad` of them quarantined."""
        self.done += done
        self.bad += bad
        now = time.monotonic()
        if self._bar is not None:
            shown = f"{self.bad} quarantined" if self.bad else ""
            self._bar.update(self._task, completed=self.done, bad=shown)
        elif now - self._last >= LINE_EVERY_S:
            self._last = now
            rate = self.done / max(now - self._started, 1e-9)
            left = (self._total - self.done) / max(rate, 1e-9)
            self._voice.say(
                f"    {self._what}: {self.done} of {self._total}, {rate:.0f} images/s, "
                f"{self.bad} quarantined, {left:.0f} s left"
            )

    def close(self) -> None:
        """Stop drawing."""
        self._bar = None
