"""Legal MLflow keys and flat values, without secrets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from pipeline.config.project import Config
from pipeline.encoding import canonical
from pipeline.errors import mask

MAX_KEY_CHARS = 250


def key(*parts: str) -> str:
    """Return a legal MLflow key for any names.

    For example `key("labels", "what/is this?")`.

    What MLflow refuses becomes `_`; a key that had to change ends in a digest, so that names stay distinct.
    """
    steps = [re.sub(r"[^\w.\- :]", "_", part) for part in parts]
    steps = [step if step.strip(".") else "_" for step in steps]
    if steps == list(parts) and len("/".join(steps)) <= MAX_KEY_CHARS:
        return "/".join(steps)
    digest = hashlib.sha256(canonical(parts)).hexdigest()[:8]
    return "/".join(steps)[: MAX_KEY_CHARS - 9].rstrip("/") + f"-{digest}"


def flat(values: Mapping[str, Any], *path: str) -> dict[str, Any]:
    """Flatten nested mappings.

    `{"seconds": {"train": 3}}` becomes `{"seconds/train": 3}`.
    """
    result: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            result |= flat(value, *path, name)
        else:
            result[key(*path, name)] = value
    return result


def config_params(config: Config) -> dict[str, str]:
    """Return the resolved config as MLflow parameters.

    `train.lr: 0.1` is `train/lr = 0.1`; a list is shown as JSON. Passwords in URIs are masked.
    """
    values = flat(config.model_dump(mode="json"))
    return {
        name: mask(value) if isinstance(value, str) else canonical(value).decode()
        for name, value in values.items()
    }
