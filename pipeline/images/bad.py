"""The reason why an image cannot be used."""

from __future__ import annotations


class BadImage(Exception):
    """An image that cannot be used; the message is quarantine's reason.

    The message is one line, the same for the same bytes. The text before its colon names the kind of fault:
    `no bytes`, `not an image`, `too many pixels`, `too much metadata`, `out of memory`, `wholly transparent`, a format
    that is `truncated` or `broken`, or a form that `is not supported here`.
    """
