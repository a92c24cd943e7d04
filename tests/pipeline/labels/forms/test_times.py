"""Times of answers, as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from pipeline.errors import LabelError
from pipeline.labels.forms.times import read_time

MOMENT = datetime(2024, 3, 31, 10, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2024-03-31 10:05",
        "2024-03-31T10:05:00Z",
        "2024-03-31 10:05:00 UTC",
        "2024-03-31 10:05:00 gmt",
        "2024-03-31T12:05+02:00",
        "20240331T100500",
        "2024/3/31 10:05",
        "31/3/2024 10:05",
        "3/31/2024 10:05",
        "03/31/2024, 10:05 AM",
        "31-03-2024 10:05:00",
        "31.03.2024 10:05",
        "31 Mar 2024 10:05",
        "March 31, 2024 10:05",
        "Mar 31 2024 10:05:00 am",
        "Sun, 31 Mar 2024 12:05:00 +0200",
        "  2024-03-31   10:05 ",
    ],
)
def test_a_time_is_read_as_it_was_meant(text: str) -> None:
    assert read_time(text) == MOMENT


def test_a_date_alone_is_its_midnight_and_nothing_is_none() -> None:
    assert read_time("31.03.2024") == read_time("Mar 31, 2024") == datetime(2024, 3, 31, tzinfo=UTC)
    assert read_time(None) is None
    assert read_time(datetime(2024, 3, 31, 10, 5)) == MOMENT


def test_a_day_that_is_also_a_month_is_not_guessed() -> None:
    with pytest.raises(LabelError, match="'3/4/2024 10:05' may be two days"):
        read_time("3/4/2024 10:05")
    assert read_time("4/4/2024") == datetime(2024, 4, 4, tzinfo=UTC)
    assert read_time("3.4.2024") == datetime(2024, 4, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    ["yesterday", "31/31/2024", "2024-02-30", "3/4/24", "10:05", "31.03.2024 25:00", "UTC", 5, "5", "now"],
)
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(LabelError, match="no time"):
        read_time(value)


@pytest.mark.parametrize(
    "value",
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-12:00",
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
    ],
)
def test_a_time_that_utc_has_not_is_refused(value: object) -> None:
    with pytest.raises(LabelError, match="outside the years 1 to 9999"):
        read_time(value)
