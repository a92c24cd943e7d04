"""Mistakes that are told before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.project import Config
from pipeline.errors import ConfigError, LabelError, PoolError
from pipeline.rounds.preflight import check_model, preflight
from pipeline.voice import Voice
from tests.support.judging import judged_by
from tests.support.pools import png

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_wrong_option_is_told_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match=r"scoring\.options: detector 'knn' has no option 'kk'"):
        check_model(judged_by("knn", scoring={"options": {"kk": 3}}))
    check_model(judged_by("knn", scoring={"options": {"k": 3}}))


def test_labeled_images_of_any_form_are_looked_at_before_anything_starts(
    tmp_path: Path, make_config: Callable[..., Config]
) -> None:
    for name in ("pool/1.png", "set/cat/2.png", "set/dog/3.png", "test/owl/4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(1))
    table = pa.table({"id": ["1.png"], "label": ["cat"]})
    pq.write_table(table, tmp_path / "first.parquet")

    def config(**more: Any) -> Config:
        first = {"kind": "people", "initial": str(tmp_path / "first.parquet")}
        pool = {"uri": str(tmp_path / "pool")}
        return make_config(workspace=str(tmp_path / "work"), pool=pool, oracle=first, **more)

    sets = {"sets": [{"uri": str(tmp_path / "set")}]}
    preflight(config(labels=sets, test={"uri": str(tmp_path / "set")}), Voice())
    with pytest.raises(LabelError, match="holds 'cat' alone"):
        preflight(config(), Voice())
    with pytest.raises(LabelError, match=r"test\.uri: .*'owl/4\.png' has the label 'owl'"):
        preflight(config(labels=sets, test={"uri": str(tmp_path / "test")}), Voice())
    with pytest.raises(PoolError, match=r"test\.uri: .* does not exist"):
        preflight(config(labels=sets, test={"uri": str(tmp_path / "gone")}), Voice())
    with pytest.raises(LabelError, match=r"labels\.sets: .*'owl/4\.png' has the label 'owl'"):
        preflight(config(labels={"sets": [{"uri": str(tmp_path / "test")}]}), Voice())
