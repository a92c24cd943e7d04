"""A project with questions to hand out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.project import Config
from tests.support.hand_off import Project

MakeConfig = Callable[..., Config]


@pytest.fixture
def project(tmp_path: Path, make_config: MakeConfig) -> Project:
    return Project.lay(str(tmp_path), make_config, list("abcdefgh"), list("abcde"))
