"""Names that leave things out by rule, or tell metadata.

Stores list nothing below a piece that starts with a dot, so that only members of archives can have such names here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

# Folders of notes and of work in progress, which writers of tables and archives leave beside the data.
_NO_DATA: Final = frozenset(
    {
        "_delta_log",
        "_change_data",
        "_temporary",
        "_spark_metadata",
        "_impala_insert_staging",
        "__MACOSX",
    }
)
_ENDING: Final = re.compile(r"\.[a-z0-9]{1,8}")
_NOTHING: Final = "__HIVE_DEFAULT_PARTITION__"


def no_data(key: str) -> str | None:
    """Return the folder that makes a key nobody's data, or None."""
    return next((piece for piece in key.split("/")[:-1] if piece in _NO_DATA), None)


def hidden(name: str) -> str | None:
    """Return the kind of a hidden member's name, or None."""
    pieces = name.split("/")
    if pieces[-1].startswith("._"):
        return "members that start with ._"
    if folder := no_data(name):
        return f"members in {folder}"
    if any(piece.startswith(".") and piece not in (".", "..") for piece in pieces):
        return "hidden members"
    return None


def by_ending(what: str, name: str) -> str:
    """Return the kind of things whose names end like this one."""
    ending = "." + name.rpartition("/")[2].lower().rpartition(".")[2]
    if "." in name.rpartition("/")[2] and _ENDING.fullmatch(ending):
        return f"{what} that end in {ending}"
    return f"{what} of no known ending"


def folder_values(uri: str, names: Sequence[str]) -> tuple[str | None, ...]:
    """Return the values that folders `name=value` of a URI give to names.

    The last such folder counts; None without one, or for the value that stands for nothing.
    """
    parts = (piece.partition("=") for piece in uri.split("/")[:-1])
    values = {unquote(name): unquote(value) for name, equals, value in parts if equals}
    return tuple(None if values.get(name) in (None, "", _NOTHING) else values[name] for name in names)
