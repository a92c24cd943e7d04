"""Values as spreadsheets and data frames leave them."""

from __future__ import annotations

import math
import unicodedata
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import LabelError
from pipeline.labels.forms.values import Unreadable, Words, is_open, plain, spellings, tidy


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ("", None),
        (b"", None),
        (math.nan, None),
        (Decimal("NaN"), None),
        (" a ", " a "),
        (3, "3"),
        (3.0, "3"),
        (-0.0, "0"),
        (3.5, "3.5"),
        (2.0**53, "9007199254740992"),
        (Decimal("1e20"), "100000000000000000000"),
        (Decimal("3.00"), "3"),
        (Decimal("3.10"), "3.10"),
        (True, "True"),
        ("é".encode(), "é"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_a_value_is_the_text_that_was_meant(value: Any, text: str | None) -> None:
    assert plain(value) == text


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"\xff", "bytes that are no UTF-8"),
        (["a"], "a list where text"),
        ({"a": 1}, "a dict where text"),
        (Unreadable("no value of type string"), "no value of type string"),
        (math.inf, "no number"),
        (1.7e18, "float too large to say which whole number was meant"),
    ],
)
def test_a_value_that_is_no_text_is_refused(value: Any, why: str) -> None:
    with pytest.raises(LabelError, match=why):
        plain(value)


def test_words_for_nothing_are_nothing_unless_a_class_is_called_so() -> None:
    for word in ("nan", "NaN", "NaT", "<NA>", " nan ", math.nan):
        row = tidy({"id": "a", "label": word, "status": word, "at": word}, ())
        assert is_open(row) and row["at"] is None
    assert tidy({"label": "nan"}, {"nan"}) == {"label": "nan"}
    assert tidy({"label": "None"}, ()) == {"label": "None"}
    assert tidy({"id": "nan"}, ()) == {"id": "nan"}, "an image may be called so"


def test_a_word_is_found_however_it_is_spelled() -> None:
    words = Words(["café", "3", "true", " a ", "cat"])
    for said, meant in (
        (unicodedata.normalize("NFD", "café"), "café"),
        ("3.0", "3"),
        ("3.000", "3"),
        (" cat", "cat"),
        ("TRUE", "true"),
        (" a ", " a "),
        ("a", " a "),
    ):
        assert words.find(said) == meant
        assert meant in spellings(said) or said == "a"
    for said in ("3.1", "Cat", "03", "", "3."):
        assert words.find(said) is None


def test_a_word_that_could_be_either_of_two_is_not_guessed() -> None:
    words = Words(["3", "3.0", "3.00"])
    assert [words.find(word) for word in ("3", "3.0", "3.00", "3.000")] == ["3", "3.0", "3.00", None]


@given(st.lists(st.text(max_size=4), max_size=6))
def test_a_known_word_always_means_itself(known: list[str]) -> None:
    words = Words(known)
    assert [words.find(word) for word in known] == known


def test_a_former_word_means_the_one_of_today() -> None:
    words = Words(["dog", "cat"], {"hound": "dog", "cat": "dog", "x": "gone"})
    assert [words.find(w) for w in ("hound", " hound ", "cat", "dog", "x")] == [
        "dog",
        "dog",
        "dog",
        "dog",
        None,
    ]
    assert words.now("x") == "gone"
