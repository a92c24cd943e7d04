"""Errors of the pipeline. `exit_code` is what the command line ends with.

PipelineError                  1
  UserError                    2  the user's mistake; never retried
    ConfigError                   the file asks for something impossible; carries .path
    StorageError                  a URI that does not exist, or may not be read
    PoolError                     a pool that is empty, or lacks a column
    LabelError                    a label outside the taxonomy, an unknown id, an unreadable label file
    WorkspaceMismatch             the workspace was made by another config
  WaitingForLabels             3  the open query has not been answered
  LeaseHeld                    4  another run works in this workspace
  SystemFault                  1  not the user's mistake; a retry is safe
    ObjectFault                   something is wrong with one object; carries .uri
      ArtefactMissing               it should be there and is not
      ArtefactDamaged               it is there and cannot be read
      ObjectChanged                 it is no longer the version that was listed
      StoreUnavailable              storage kept failing after bounded retries; carries .attempts
    AccountError                  rows neither scored nor quarantined
    QuarantineOverflow            more broken rows than the config tolerates
    StageFailed                   a step of the round failed; carries .stage

Every class takes one message and keeps the rest as plain attributes, so all of them survive the pickling that
brings an error home from a worker. `at` makes one with its attribute.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Self


class PipelineError(Exception):
    """Root of everything that the pipeline raises on purpose."""

    exit_code = 1


class UserError(PipelineError):
    """Something the user can put right; the message says where and how."""

    exit_code = 2


class ConfigError(UserError):
    """The config asks for something impossible; `path` is the dotted path of the offending value."""

    path: str | None = None

    @classmethod
    def at(cls, path: str, message: str) -> Self:
        """Return the error for a value of the config."""
        error = cls(message)
        error.path = path
        return error


class StorageError(UserError):
    """A URI that does not exist, has an unknown scheme, or may not be read."""


class PoolError(UserError):
    """A pool that is empty or lacks a column."""


class LabelError(UserError):
    """A label outside the taxonomy, an unknown id, or a label file that cannot be read."""


class WorkspaceMismatch(UserError):
    """The workspace was made by another config."""


class WaitingForLabels(PipelineError):
    """The open query has not been answered yet."""

    exit_code = 3


class LeaseHeld(PipelineError):
    """Another run holds the lease of this workspace."""

    exit_code = 4


class SystemFault(PipelineError):
    """Not the user's mistake: a retry of the same command is safe and may succeed."""


class ObjectFault(SystemFault):
    """Something is wrong with one object; `uri` says which."""

    uri: str | None = None

    @classmethod
    def at(cls, uri: str, message: str) -> Self:
        """Return the error for an object."""
        error = cls(message)
        error.uri = uri
        return error


class ArtefactMissing(ObjectFault):
    """An object that should be there is not."""


class ArtefactDamaged(ObjectFault):
    """An object is there, but is not what it should be."""


class ObjectChanged(ObjectFault):
    """An object is no longer the version that was asked for."""


class StoreUnavailable(ObjectFault):
    """Storage kept failing after bounded retries; `attempts` says how often it was asked."""

    attempts: int = 1


class AccountError(SystemFault):
    """Some listed rows were neither scored nor quarantined, or were so twice."""


class QuarantineOverflow(SystemFault):
    """More rows are broken than `scoring.max_quarantined` tolerates."""


class StageFailed(SystemFault):
    """A step of a round failed; `stage` says which."""

    stage: str | None = None

    @classmethod
    def at(cls, stage: str, message: str) -> Self:
        """Return the error for a step."""
        error = cls(message)
        error.stage = stage
        return error


def ours(error: BaseException | None) -> PipelineError | None:
    """The error of ours behind what Ray wrapped around it on its way home from a worker."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        inner = getattr(error, "cause", None)
        if isinstance(inner, BaseException):
            error = inner
        elif isinstance(error, PipelineError):
            return error
        else:
            error = error.__cause__
    return None


def mask(text: str) -> str:
    """The text with the user and password of any URI in it replaced by stars."""
    return re.sub(r"(?<=://)[^/\s]+@", "***@", text)


def printable(text: str) -> str:
    """Text that may hold a stranger's words or a URI's password, as it may be shown; line breaks stay.

    What a terminal would obey is taken out.
    """
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in mask(text))


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a message: the nearest known word, or the list of them.

    >>> nearest("trian", ["train", "tune"])
    'did you mean train?'
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"known: {shown}" if names else "there are none"
