"""Pages from templates, with every value escaped."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.images.thumbnail import png_uri

_UNSAFE = re.compile(
    r"[\ud800-\udfff\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def fill(template: str, values: Mapping[str, Any], filters: Mapping[str, Callable[..., str]]) -> str:
    """Fill a template of this package; all text in `values` is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
    )
    environment.filters |= {"png": png_uri, **filters}
    return environment.get_template(template).render(values)


def visible(value: Any) -> Any:
    """Replace characters that would hide or disorder a text.

    These are lone surrogates, control characters and changes of direction.
    """
    return _UNSAFE.sub("\ufffd", value) if type(value) is str else value
