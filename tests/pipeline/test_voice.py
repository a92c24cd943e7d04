"""What a person sees: a bar on a terminal, plain lines elsewhere; and what MLflow is told meanwhile."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from rich.console import Console

from pipeline import voice as progress
from pipeline.voice import WINDOW_S, Pace, Voice


def voice(terminal: bool = False, width: int = 80) -> tuple[Voice, io.StringIO]:
    sink = io.StringIO()
    return Voice(
        Console(file=sink, force_terminal=terminal, width=width, soft_wrap=True, highlight=False)
    ), sink


@dataclass
class Clock:
    now: float = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    return clock


def test_a_voice_speaks_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Voice().say("hello")
    assert capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize("text", ["[red]not markup[/red]", "[/]", "x" * 300, "s3://bucket/a b/[1]"])
def test_text_from_data_is_one_plain_line(text: str) -> None:
    speaker, sink = voice()
    speaker.say(text)
    assert sink.getvalue() == f"{text}\n"


# ------------------------------------------------------------------------------------------------------- pace


def test_a_pace_is_of_the_last_window_without_the_start() -> None:
    pace = Pace()
    assert pace.rate(0.0) is None
    pace.mark(20.0, 1000)  # 20 s of start-up, and a thousand at once
    assert pace.rate(20.0) is None
    assert pace.rate(21.0) is None
    for second in range(1, 101):
        pace.mark(20.0 + second, 1000 + 5 * second)
    assert pace.rate(120.0) == pytest.approx(5.0)
    for second in range(1, 41):
        pace.mark(120.0 + second, 1500 + 50 * second)
    assert pace.rate(160.0) == pytest.approx(50.0)  # the slow time is out of the window
    assert pace.rate(190.0) == pytest.approx(25.0)  # and nothing came since


def test_a_pace_needs_time_to_pass_and_holds_few_marks() -> None:
    pace = Pace()
    for done in range(5):
        pace.mark(7.0, done)
    assert pace.rate(7.0) is None
    for tick in range(100_000):
        pace.mark(7.0 + tick / 1000, tick)
    assert len(pace._marks) <= WINDOW_S + 2
    assert pace.rate(107.0) == pytest.approx(1000.0, rel=0.05)


# ------------------------------------------------------------------------------------------------------ lines


def test_lines_tell_the_start_then_how_far_and_how_fast(clock: Clock) -> None:
    speaker, sink = voice()
    with speaker.counting("scoring", 100_000, before=20_000) as counter:
        for seconds, done, bad in ((8, 1000, 0), (5, 1000, 2), (5, 1000, 0), (10, 4000, 1), (1, 400, 0)):
            clock.now += seconds
            counter.add(done, bad)
        assert (counter.done, counter.bad) == (7400, 3)
    assert sink.getvalue().splitlines() == [
        "    scoring: first images after 8 s; 20,000 of 100,000 were done before",
        "    scoring: 23,000 of 100,000, 200 images/s, 2 quarantined, 6 min left",
        "    scoring: 27,000 of 100,000, 300 images/s, 3 quarantined, 4 min left",
    ]


@pytest.mark.parametrize("total", [0, 1, 100])
def test_no_count_divides_by_zero_or_exceeds_what_is_listed(clock: Clock, total: int) -> None:
    speaker, sink = voice()
    with speaker.counting("scoring", total) as counter:
        counter.add(0)
        counter.add(100)
        clock.now += 20
        counter.add(50, 50)  # scored twice, since a worker died
        clock.now += 20
        counter.add(0)
        numbers, step = counter.numbers()
    assert step == numbers["listed"] == total
    assert numbers["scored"] == max(total - 50, 0)
    for line in sink.getvalue().splitlines()[1:]:
        assert f"{total} of {total}" in line
        assert "left" not in line


def test_lengths_of_time_as_people_say_them() -> None:
    spans = [progress._span(seconds) for seconds in (0.2, 99.4, 100, 5940, 6000, 86_400)]
    assert spans == ["0 s", "99 s", "2 min", "99 min", "1 h 40 min", "24 h 00 min"]


# -------------------------------------------------------------------------------------------------------- bar


def test_a_terminal_gets_a_bar_that_goes_away(clock: Clock) -> None:
    speaker, sink = voice(terminal=True, width=120)
    with speaker.counting("[b]scoring[/b]", 9000, before=1000) as counter:
        for _ in range(2):
            clock.now += 2
            counter.add(2000, 1)
        assert counter._bar is not None
        counter._bar.refresh()
        assert "[b]scoring[/b]" in sink.getvalue()  # as it stands
        assert "5,000 of 9,000, 1,000 images/s, 2 quarantined, 4 s left" in sink.getvalue()
    assert counter._bar is None
    counter.add(1)  # after the end it still counts
    assert counter.done == 4001


def test_work_that_fails_stops_the_bar() -> None:
    speaker, _ = voice(terminal=True)
    with pytest.raises(ZeroDivisionError), speaker.counting("scoring", 3) as counter:
        raise ZeroDivisionError
    assert counter._bar is None


# --------------------------------------------------------------------------------------------------- publishing


class Listener:
    """Notes what it is told; may wait for leave, and may fail."""

    def __init__(self, *, held: bool = False, failing: bool = False) -> None:
        self.told: list[tuple[dict[str, float], int]] = []
        self.called = threading.Event()
        self.leave = threading.Event()
        self.calls = self.at_once = self.most_at_once = 0
        self._failing = failing
        if not held:
            self.leave.set()

    def __call__(self, numbers: Mapping[str, float], step: int) -> None:
        self.calls += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.called.set()
        self.leave.wait()
        self.at_once -= 1
        if self._failing:
            raise ConnectionError("[b]no answer[/b]\nfrom there")
        self.told.append((dict(numbers), step))


def test_the_last_numbers_are_published_in_the_end() -> None:
    listener = Listener()
    speaker, _ = voice()
    with speaker.counting("scoring", 100, before=10, publish=listener) as counter:
        counter.add(50, 2)
        counter.add(40)
    ((numbers, step),) = listener.told
    assert step == 100
    assert (numbers["listed"], numbers["scored"], numbers["quarantined"]) == (100, 98, 2)


def test_numbers_are_published_meanwhile_and_only_when_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PUBLISH_EVERY_S", 0.01)
    listener = Listener()
    speaker, _ = voice()
    with speaker.counting("scoring", 100, publish=listener) as counter:
        time.sleep(0.05)
        assert not listener.called.is_set()  # nothing is done yet
        for done in (30, 30):
            listener.called.clear()
            counter.add(done)
            assert listener.called.wait()
            time.sleep(0.05)
    assert [step for _, step in listener.told] == [30, 60]


def test_a_listener_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PUBLISH_EVERY_S", 0.01)
    monkeypatch.setattr(progress, "LAST_WORD_S", 0.1)
    listener = Listener(held=True)
    speaker, sink = voice()
    with speaker.counting("scoring", 100, publish=listener) as counter:
        counter.add(10)
        assert listener.called.wait()
        for _ in range(90):
            counter.add(1)
        time.sleep(0.1)
    assert counter.done == 100  # the block is over while the listener still hangs
    assert listener.told == []
    assert (listener.calls, listener.most_at_once) == (1, 1)
    assert "live numbers" not in sink.getvalue()
    listener.leave.set()


def test_a_listener_that_fails_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PUBLISH_EVERY_S", 0.01)
    listener = Listener(failing=True)
    speaker, sink = voice()
    with speaker.counting("scoring", 100, publish=listener) as counter:
        for _ in range(3):
            listener.called.clear()
            counter.add(1)
            assert listener.called.wait()
    assert listener.calls >= 3
    said = [line for line in sink.getvalue().splitlines() if "live" in line]
    assert said == ["    live numbers: not now: [b]no answer[/b] from there"]


def test_work_that_fails_does_not_wait_for_its_listener() -> None:
    listener = Listener(held=True)
    speaker, _ = voice()
    with pytest.raises(ZeroDivisionError), speaker.counting("scoring", 3, publish=listener) as counter:
        counter.add(1)
        raise ZeroDivisionError
    listener.leave.set()
