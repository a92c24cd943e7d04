"""Variants and their names."""

from __future__ import annotations

from pathlib import Path

from pipeline.studies.ablation.config import AblationStudy
from pipeline.studies.kinds import load_study

CONFIGS = Path(__file__).parents[4] / "configs"


def test_variants_are_named_by_what_sets_them_apart() -> None:
    study = load_study(CONFIGS / "ablation_digits.yaml", ["grid={neighbors: [1, 5], fusion: [zscore, raw]}"])
    assert isinstance(study, AblationStudy)
    names = list(study.variants())
    assert names[0] == "base"
    assert "neighbors=5, fusion=raw" in names
    assert len(names) == len(set(names))
    assert names.count("neighbors=5") == 1  # once by `vary`, once by `grid`
    assert study.variants()["neighbors=5, fusion=raw"].neighbors == 5
