"""What a study may be told: frozen models as those of `pipeline.config`, one for each kind of study.

`load_study` reads one from a file; `study: active-learning | ood | ablation` says which it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.load import as_model, read
from pipeline.errors import ConfigError, nearest
from pipeline.studies.ablation.config import AblationStudy
from pipeline.studies.active.config import ActiveStudy
from pipeline.studies.detection.config import OodStudy

STUDIES: dict[str, type[ActiveStudy] | type[OodStudy] | type[AblationStudy]] = {
    "active-learning": ActiveStudy,
    "ood": OodStudy,
    "ablation": AblationStudy,
}
StudyConfig = ActiveStudy | OodStudy | AblationStudy


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study's config; `overrides` are `key.path=value` assignments, applied in order.

    Raises:
        ConfigError: an unknown key, a wrong type, an impossible value; the message says where.
    """
    data = read(path, overrides)
    kind = data.get("study")
    if not isinstance(kind, str) or kind not in STUDIES:
        hint = nearest(str(kind), STUDIES) if kind is not None else f"write one of {', '.join(STUDIES)}"
        error = ConfigError(
            f"{path}: study: {'missing' if kind is None else f'unknown kind {kind!r}'}; {hint}"
        )
        error.path = "study"
        raise error
    for key in ("detectors", "strategies"):
        if isinstance(data.get(key), list):  # a bare name stands for a choice without options
            data[key] = [{"name": each} if isinstance(each, str) else each for each in data[key]]
    return as_model(STUDIES[kind], data, str(path))
