"""What both pages share."""

from __future__ import annotations

import base64
import re
from typing import Any


def _clean(value: Any) -> Any:
    """Text with a visible sign for each lone surrogate, control character and change of direction."""
    return _UNSAFE.sub("\ufffd", value) if type(value) is str else value


_UNSAFE = re.compile(
    r"[\ud800-\udfff\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
