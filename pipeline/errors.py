"""Errors of the pipeline.

`exit_code` is the exit status of the command line.

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

Every class takes one message and keeps the rest as plain attributes, so that an error survives the pickling on its
way from a worker to the driver. `at` makes an error with its attribute.
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
    """Error that the user can put right.

    The message says where and how.
    """

    exit_code = 2


class ConfigError(UserError):
    """Impossible value in the config.

    `path` is the dotted path of the offending value, `faults` a sentence for each, where there are several.
    """

    path: str | None = None
    faults: tuple[str, ...] = ()

    @classmethod
    def at(cls, path: str, message: str) -> Self:
        """Return the error for a value of the config."""
        error = cls(message)
        error.path = path
        return error


class StorageError(UserError):
    """Missing URI, unknown scheme, or denied access."""


class PoolError(UserError):
    """Pool that is empty or lacks a column."""


class LabelError(UserError):
    """Label outside the taxonomy, unknown id, or unreadable label file."""


class WorkspaceMismatch(UserError):
    """Workspace that was made by another config."""


class WaitingForLabels(PipelineError):
    """Open query that has not been answered yet."""

    exit_code = 3


class LeaseHeld(PipelineError):
    """Lease of this workspace held by another run."""

    exit_code = 4


class SystemFault(PipelineError):
    """Failure that is not the user's mistake.

    A retry of the same command is safe and may succeed.
    """


class ObjectFault(SystemFault):
    """Failure of one object, named by `uri`."""

    uri: str | None = None

    @classmethod
    def at(cls, uri: str, message: str) -> Self:
        """Return the error for an object."""
        error = cls(message)
        error.uri = uri
        return error


class ArtefactMissing(ObjectFault):
    """Object that should exist and does not."""


class ArtefactDamaged(ObjectFault):
    """Object whose content is not what it should be."""


class ObjectChanged(ObjectFault):
    """Object that is no longer the version that was asked for."""


class StoreUnavailable(ObjectFault):
    """Storage that kept failing after bounded retries.

    `attempts` is how often it was asked.
    """

    attempts: int = 1


class AccountError(SystemFault):
    """Listed rows neither scored nor quarantined, or counted twice."""


class QuarantineOverflow(SystemFault):
    """More broken rows than `scoring.max_quarantined` tolerates."""


class StageFailed(SystemFault):
    """Failure of a step of a round, named by `stage`."""

    stage: str | None = None

    @classmethod
    def at(cls, stage: str, message: str) -> Self:
        """Return the error for a step."""
        error = cls(message)
        error.stage = stage
        return error


def ours(error: BaseException | None) -> PipelineError | None:
    """Return the pipeline's error inside one that Ray raised.

    Ray wraps what a worker raises. None if no cause is a `PipelineError`.
    """
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
    """Replace user and password of URIs in a text by stars."""
    return re.sub(r"(?<=://)[^/\s]+@", "***@", text)


def printable(text: str) -> str:
    """Make a text safe to show; line breaks stay.

    The text may hold a stranger's words or a URI's password. Passwords are masked, and characters that a terminal would
    obey are replaced.
    """
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in mask(text))


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint: the nearest known word, or the known words.

    >>> nearest("trian", ["train", "tune"])
    'did you mean train?'
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"known: {shown}" if names else "there are none"
