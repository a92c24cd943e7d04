"""Kinds of studies: the config and the function of each.

`load_study` reads a config from a file; its `study: active-learning | ood | ablation` names the kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.load import as_model, parse_values
from pipeline.config.project import Config
from pipeline.errors import ConfigError, nearest
from pipeline.store.config_file import config_text
from pipeline.studies.ablation.config import AblationStudy
from pipeline.studies.active.config import ActiveStudy
from pipeline.studies.detection.config import OodStudy

if TYPE_CHECKING:
    from pipeline.studies.lab.cells import Lab
    from pipeline.studies.outcome import Outcome

StudyConfig = ActiveStudy | OodStudy | AblationStudy


@dataclass(frozen=True)
class Kind:
    """A kind of study; `title` heads its report."""

    config: type[StudyConfig]
    run: Callable[[Any, Lab], Outcome]
    title: str


def _active(config: ActiveStudy, lab: Lab) -> Outcome:
    from pipeline.studies.active.study import (
        run,
    )  # on use, as below: reading a config needs no Ray

    return run(config, lab)


def _detection(config: OodStudy, lab: Lab) -> Outcome:
    from pipeline.studies.detection.study import run

    return run(config, lab)


def _ablation(config: AblationStudy, lab: Lab) -> Outcome:
    from pipeline.studies.ablation.study import run

    return run(config, lab)


KINDS = {
    "active-learning": Kind(ActiveStudy, _active, "active learning"),
    "ood": Kind(OodStudy, _detection, "out-of-distribution detection"),
    "ablation": Kind(AblationStudy, _ablation, "ablation"),
}


def kind_of(text: str, where: str) -> str | None:
    """Return the kind of study of a config's text, if any."""
    kind = parse_values(text, where, (), Config).get("study")
    return kind if isinstance(kind, str) and kind in KINDS else None


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study's config.

    `overrides` are `key.path=value` assignments, applied in order.

    Raises:
        ConfigError: an unknown key, a wrong type, an impossible value; the message says where.
    """
    text = config_text(path, overrides)
    kind = kind_of(text, str(path))
    data = parse_values(text, str(path), overrides, KINDS[kind].config if kind is not None else Config)
    kind = data.get("study")
    if not isinstance(kind, str) or kind not in KINDS:
        hint = nearest(str(kind), KINDS) if kind is not None else f"write one of {', '.join(KINDS)}"
        error = ConfigError(
            f"{path}: study: {'missing' if kind is None else f'unknown kind {kind!r}'}; {hint}"
        )
        error.path = "study"
        raise error
    for key in ("detectors", "strategies"):
        if isinstance(data.get(key), list):  # a bare name stands for a choice without options
            data[key] = [{"name": each} if isinstance(each, str) else each for each in data[key]]
    return as_model(KINDS[kind].config, data, str(path))
