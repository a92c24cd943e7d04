"""What a person sees: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pipeline import progress
from pipeline.progress import Voice


def voice(terminal: bool = False, width: int = 80) -> tuple[Voice, io.StringIO]:
    sink = io.StringIO()
    return Voice(
        Console(file=sink, force_terminal=terminal, width=width, soft_wrap=True, highlight=False)
    ), sink


def test_a_voice_speaks_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Voice().say("hello")
    assert capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize("text", ["[red]not markup[/red]", "[/]", "x" * 300, "s3://bucket/a b/[1]"])
def test_text_from_data_is_one_plain_line(text: str) -> None:
    speaker, sink = voice()
    speaker.say(text)
    assert sink.getvalue() == f"{text}\n"


def test_counting_adds_up_and_tells_from_time_to_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 4.0, 8.0, 9.0])
    monkeypatch.setattr(progress, "LINE_EVERY_S", 3.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    speaker, sink = voice()
    with speaker.counting("scoring", 100) as counter:
        for done, bad in ((10, 0), (10, 2), (20, 0), (5, 1)):
            counter.add(done, bad)
        assert (counter.done, counter.bad) == (45, 3)
    # At 4 s: 20 in 4 s are 5 a second, 80 are left; at 8 s: 40 in 8 s, 60 are left.
    assert sink.getvalue().splitlines() == [
        "    scoring: 20 of 100, 5 images/s, 2 quarantined, 16 s left",
        "    scoring: 40 of 100, 5 images/s, 2 quarantined, 12 s left",
    ]


def test_a_short_piece_of_work_says_nothing() -> None:
    speaker, sink = voice()
    with speaker.counting("scoring", 1) as counter:
        counter.add(1)
    assert sink.getvalue() == ""


def test_a_terminal_gets_a_bar_that_goes_away() -> None:
    speaker, sink = voice(terminal=True, width=120)
    with speaker.counting("scoring", 3) as counter:
        counter.add(2, 1)
        assert counter._bar is not None
        counter._bar.refresh()
        assert "2/3" in sink.getvalue()
        assert "1 quarantined" in sink.getvalue()
    assert counter._bar is None
    counter.add(1)  # after the end it still counts
    assert counter.done == 3


def test_work_that_fails_stops_the_bar() -> None:
    speaker, _ = voice(terminal=True)
    with pytest.raises(ZeroDivisionError), speaker.counting("scoring", 3) as counter:
        raise ZeroDivisionError
    assert counter._bar is None
