"""Times as people and tools write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from pipeline.errors import LabelError

_ZONES: Final = re.compile(r"\s*(?:UTC|GMT|Z)$", re.IGNORECASE)
_NUMBERS: Final = re.compile(r"(\d{1,4})([./-])(\d{1,2})\2(\d{2,4})(?:[ T,]+(.*))?")
_CLOCKS: Final = ("%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%I:%M:%S %p", "%I:%M %p", "%I:%M%p")
_NAMED: Final = ("%d %b %Y", "%d %B %Y", "%b %d %Y", "%B %d %Y", "%d-%b-%Y")


def read_time(value: Any) -> datetime | None:
    """Read a time, given as one or as text.

    Text is ISO 8601 or a date with or without a clock time, such as "4 Mar 2024 10:05", "04.03.2024", "2024/3/4
    10:05 PM" or "13/4/2024"; a time without a zone is UTC. None stays None.

    Raises:
        LabelError: anything else, a date whose day and month could be either, a time that UTC has not.
    """
    if value is None:
        return None
    if isinstance(value, str):
        value = _from_text(" ".join(value.split()))
    if not isinstance(value, datetime):
        raise LabelError(f"{_short(value)} is no time")
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (OverflowError, ValueError):
        raise LabelError(f"{_short(str(value))} is a time outside the years 1 to 9999") from None


def _from_text(text: str) -> datetime:
    zoned = _ZONES.search(text)
    bare = text[: zoned.start()] if zoned and len(text) > 3 else text
    try:
        found = datetime.fromisoformat(bare)
        return found.replace(tzinfo=UTC) if zoned and found.tzinfo is None else found
    except ValueError:
        pass
    numbers = _NUMBERS.fullmatch(bare)
    if numbers is not None:
        return _of_numbers(text, numbers)
    try:
        return parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        pass
    words = bare.replace(",", " ").split()
    for date in _NAMED:
        length = len(date.split())
        for clock in ("", *_CLOCKS):
            try:
                day = datetime.strptime(" ".join(words[:length]), date)
                return _at(day, " ".join(words[length:]), clock)
            except ValueError:
                continue
    raise LabelError(f"{_short(text)} is no time; write it as 2024-03-31 10:05")


def _of_numbers(text: str, numbers: re.Match[str]) -> datetime:
    """Read a date of three numbers, if it has one meaning."""
    first, mark, second, third, rest = numbers.groups()
    if len(first) == 4:
        order = [(int(first), int(second), int(third))]
    elif len(third) == 4 and mark == ".":  # who writes dots puts the day first
        order = [(int(third), int(second), int(first))]
    elif len(third) == 4:
        order = [(int(third), int(second), int(first)), (int(third), int(first), int(second))]
    else:
        order = []
    days = set()
    for year, month, day in order:
        try:
            days.add(datetime(year, month, day))
        except ValueError:
            continue
    if len(days) > 1:
        raise LabelError(
            f"{_short(text)} may be two days: which number is the month? Write it as 2024-03-31 10:05"
        )
    for date in days:
        for clock in ("", *_CLOCKS):
            try:
                return _at(date, rest or "", clock)
            except ValueError:
                continue
    raise LabelError(f"{_short(text)} is no time; write it as 2024-03-31 10:05")


def _at(day: datetime, text: str, clock: str) -> datetime:
    time = datetime.strptime(text, clock)
    return day if not clock else datetime.combine(day.date(), time.time())


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
