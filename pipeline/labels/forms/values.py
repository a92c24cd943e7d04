"""Values of label files, as spreadsheets and data frames leave them.

A whole number may have become a float, a text bytes, nothing `NaN`, and an accent two characters.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

from pipeline.errors import LabelError

NOTHING: Final = frozenset({"nan", "NaN", "NaT", "<NA>"})  # as data frames write it into text
_EXACT: Final = 2.0**53  # beyond it, floats leave out whole numbers
_WHOLE: Final = re.compile(r"([+-]?\d+)\.0+")


class Unreadable:
    """Mark of a cell whose bytes are no value of its type."""

    def __init__(self, why: str) -> None:
        self.why = why


def plain(value: Any) -> str | None:
    """Return a value as the text that was meant; None for nothing.

    Whole numbers lose their decimal point, and bytes are read as UTF-8.

    Raises:
        LabelError: a value that can't be text.
    """
    if value is None or (isinstance(value, float | Decimal) and value != value):
        return None
    if isinstance(value, Unreadable):
        raise LabelError(value.why)
    if isinstance(value, bytes):
        try:
            return value.decode() or None
        except UnicodeDecodeError:
            raise LabelError("bytes that are no UTF-8, where text should be") from None
    if isinstance(value, float | Decimal):
        if not math.isfinite(value):
            raise LabelError(f"{value} is no number")
        if isinstance(value, float) and abs(value) > _EXACT:
            raise LabelError(
                f"{value} is a float too large to say which whole number was meant; write it as text"
            )
        return str(int(value)) if value == int(value) else str(value)
    if isinstance(value, list | dict | tuple):
        raise LabelError(f"a {type(value).__name__} where text should be")
    return str(value) or None


def tidy(row: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return an answer's values without what tools and hands add.

    White space around words is cut off, and words for nothing become None. Ids stay as they are, and so does what
    is in `known`, the classes. Times are left to `read_time`.

    Raises:
        LabelError: a value that can't be text; says of which column.
    """
    tidied: dict[str, Any] = {}
    for name, value in row.items():
        if name == "at" and not isinstance(value, str | bytes | float | Unreadable):
            tidied[name] = value
            continue
        try:
            text = plain(value)
        except LabelError as error:
            raise LabelError(f"{name}: {error}") from None
        if text is not None and name != "id" and text not in known:
            text = text.strip()
            text = None if text in NOTHING else text or None
        tidied[name] = text
    return tidied


def is_open(values: Mapping[str, Any]) -> bool:
    """Return whether a tidied row has neither label nor status."""
    return values.get("label") is None and values.get("status") is None


def folded(word: str) -> str:
    """Return a word without what spreadsheets change in it.

    White space around it, the form of its accents, a decimal point behind a whole number, and how a truth value is
    written.
    """
    text = unicodedata.normalize("NFC", word.strip())
    whole = _WHOLE.fullmatch(text)
    if whole is not None:
        return whole[1]
    return text.lower() if text.lower() in ("true", "false") else text


def spellings(word: str) -> set[str]:
    """Return how else a word may be spelled where it is known."""
    text = folded(word)
    return {word, text, unicodedata.normalize("NFD", text)}


class Words(Collection[str]):
    """Known words, found also as spreadsheets write them.

    `renamed` says which known word is meant by a former one.
    """

    def __init__(self, words: Iterable[str], renamed: Mapping[str, str] | None = None) -> None:
        self._words = frozenset(words)
        self._renamed = dict(renamed or {})

    def __contains__(self, word: object) -> bool:
        return word in self._words

    def __iter__(self) -> Iterator[str]:
        return iter(self._words)

    def __len__(self) -> int:
        return len(self._words)

    @cached_property
    def _by_fold(self) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        former = {old for old, new in self._renamed.items() if new in self._words}
        for word in self._words | former:
            key = folded(word)
            found[key] = None if key in found else word  # two that look alike: neither can be meant
        return found

    def isdisjoint(self, words: Iterable[str]) -> bool:
        """Return whether none of the words is known."""
        return self._words.isdisjoint(words)

    def find(self, word: str) -> str | None:
        """Return the one known word that was meant, or None.

        A word that is known as it stands is always meant itself, under its name of today.
        """
        found = word if word in self._words else self._by_fold.get(folded(word))
        return None if found is None else self.now(found)

    def now(self, word: str) -> str:
        """Return what a word is called today, known or not."""
        return self._renamed.get(word, word)
