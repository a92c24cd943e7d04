"""Configs of studies: every one in the repository loads, and what is wrong is told by its dotted path."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.errors import ConfigError
from pipeline.studies.ablation.config import AblationStudy
from pipeline.studies.active.config import ActiveStudy
from pipeline.studies.detection.config import OodStudy
from pipeline.studies.kinds import KINDS, load_study

CONFIGS = Path(__file__).parents[3] / "configs"
STUDIES = sorted(p for p in CONFIGS.glob("*.yaml") if "study" in yaml.safe_load(p.read_text()))
PUBLISHED = ("openood_cifar10", "openood_cifar100", "openood_imagenet", "al_cifar10", "al_cifar100", "al_svhn",
             "openset_cifar10")  # fmt: skip


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_config_loads_and_opens_with_its_command(path: Path) -> None:
    assert isinstance(load_study(path), ActiveStudy | OodStudy | AblationStudy)
    comment = path.read_text().split("\nstudy:")[0]
    assert all(line.startswith("#") for line in comment.splitlines())
    assert f"sisom study configs/{path.name}" in comment


def test_the_published_protocols_have_twins() -> None:
    stems = {path.stem for path in STUDIES}
    assert stems >= {*PUBLISHED, *(f"{name}_small" for name in PUBLISHED)}


def test_values_that_others_published_stand_in_the_configs() -> None:
    ood = load_study(CONFIGS / "openood_cifar10.yaml")
    assert isinstance(ood, OodStudy)
    assert ood.train is not None
    assert (ood.train.epochs, ood.train.batch_size, ood.train.lr, ood.train.weight_decay) == (
        100,
        128,
        0.1,
        5e-4,
    )
    assert ood.seeds == (0, 1, 2)
    sizes = {}
    for name in ("al_cifar10", "al_cifar100", "al_svhn"):
        active = load_study(CONFIGS / f"{name}.yaml")
        assert isinstance(active, ActiveStudy)
        sizes[name] = active.query
    assert sizes == {"al_cifar10": 1000, "al_cifar100": 2000, "al_svhn": 500}


@pytest.mark.parametrize(
    ("name", "override", "said"),
    [
        ("al_digits", "study=activ", "did you mean active-learning?"),
        ("al_digits", "train.epoch=3", "train.epoch: unknown key; did you mean epochs?"),
        ("al_digits", "rounds=1", "rounds: "),
        ("al_digits", "strategies=[marign]", "unknown name 'marign'; did you mean margin?"),
        ("al_digits", "strategies=[margin, margin]", "twice: margin"),
        ("al_digits", "strategies=[{name: margin, filter: true}]", "needs open_set"),
        ("al_digits", "strategies=[{name: margin, fliter: true}]", "did you mean filter?"),
        ("al_digits", "seeds=[1, 1]", "twice: 1"),
        ("ood_digits", "detectors=[{name: knn, options: {kk: 3}}]", "takes no option 'kk'; did you mean k?"),
        ("ood_digits", "detectors=[{name: knn, options: {k: 0}}]", "knn: k starts at 1"),
        ("ood_digits", "detectors=[{name: knn, sweep: {k: [1, 2]}}]", "needs validation"),
        ("ood_digits", "detectors=[{name: msp, sweep: published}]", "no sweep of msp"),
        ("ood_digits", "checkpoints=[a.safetensors]", "either checkpoints or train"),
        ("ood_digits", "near=[{name: noise}]", "twice: noise"),
        ("ablation_digits", "vary.outter=[anchor]", "did you mean outer?"),
        ("ablation_digits", "vary.outer=[middle]", "outer: "),
        ("ablation_digits", "base.slopes=cifar", "did you mean cifar10?"),
        ("ablation_digits", "vary.space=[penultimate]", "penultimate is one layer"),
    ],
)
def test_what_is_wrong_is_told(name: str, override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_study(CONFIGS / f"{name}.yaml", [override])
    assert said in str(caught.value)


def test_a_study_is_what_its_results_follow_from() -> None:
    path = CONFIGS / "al_digits.yaml"
    assert load_study(path).digest() == load_study(path, ["workspace=elsewhere", "compute.trials=1"]).digest()
    assert load_study(path).digest() != load_study(path, ["query=21"]).digest()


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_kind_goes_by_the_name_that_its_config_takes(name: str) -> None:
    field = KINDS[name].config.model_fields["study"]
    assert field.annotation is not None
    assert field.annotation.__args__ == (name,)
    assert callable(KINDS[name].run)


def test_the_table_imports_no_engine() -> None:
    code = "import sys, pipeline.studies.kinds; print([m for m in ('ray', 'mlflow') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
