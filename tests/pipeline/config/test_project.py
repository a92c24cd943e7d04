"""What makes two configs one project."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from pipeline.config.load import parse
from pipeline.config.project import Config
from pipeline.errors import ConfigError

PLAIN = "workspace: w\ntaxonomy: [cat, dog]\npool: {uri: p}\noracle: {kind: simulated, truth: t}\n"


def test_the_demos_other_data_lie_beside_its_pool_unless_said_otherwise() -> None:
    demo = PLAIN.replace("{uri: p}", "{uri: 's3://b/x/pool/'}").replace(", truth: t", "") + "demo: digits\n"
    config = parse(demo, "x.yaml")
    assert (config.test_uri, config.truth_uri) == ("s3://b/x/test", "s3://b/x/truth")
    config = parse(demo, "x.yaml", ["test.uri=mine", "oracle.truth=theirs"])
    assert (config.test_uri, config.truth_uri) == ("mine", "theirs")
    assert parse(PLAIN, "x.yaml").test_uri is None


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValidationError):
        parse(PLAIN, "x.yaml").seed = 3  # type: ignore[misc]


# How long, on what and how forgivingly it runs; all else makes it another project.
RUNTIME = {
    "workspace",
    "rounds",
    "stop",
    "resources",
    "tick",
    "tracking",
    "storage",
    "scoring.max_quarantined",
    "pool.max_unreadable_files",
}


def changed(value: Any) -> Any:
    """Another value of the same kind that stays within what a config takes."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1 if value not in (1, 2) else 3 - value
    if isinstance(value, float):
        return value * 0.9
    return f"{value}x"


OTHERS = {
    ("tracking", "uri"): "http://mlflow.example:5000",
    ("pool", "include"): ["*.png"],
    ("pool", "exclude"): ["*.png"],
    ("oracle", "kind"): "people",
    ("oracle", "initial"): "x",
    ("model", "name"): "resnet18",
    ("model", "layers"): ["layer1", "avgpool"],
    ("model", "resize"): 64,
    ("model", "interpolation"): "bicubic",
    ("train", "start"): "last",
    ("train", "precision"): "bf16",
    ("train", "optimizer"): "adamw",
    ("train", "loss"): "logit-norm",
    ("train", "label_smoothing"): 0.1,
    ("train", "class_weights"): {"cat": 2.0},
    ("train", "average"): 0.99,
    ("train", "patience"): 20,
    ("train", "augment", "random_resized_crop"): {"scale": [0.5, 1.0]},
    ("train", "augment", "color_jitter"): {"hue": 0.2},
    ("train", "augment", "rand_augment"): {"magnitude": 3},
    ("train", "augment", "mixup"): 0.2,
    ("train", "augment", "cutmix"): 1.0,
    ("slopes", "search"): "none",
    ("slopes", "grid"): {"layer1": [1.0]},
    ("bank", "outer"): "anchor",
    ("bank", "fusion"): "raw",
    ("scoring", "score"): "energy",
    ("query", "strategy"): "random",
    ("resources", "device"): "cpu",
    ("resources", "actors"): 3,
    ("scoring", "options"): {"k": 3},
    ("query", "options"): {"most": 3},
    ("open_world", "promote_at"): 5,
    ("stop", "labels"): 500,
    ("stop", "accuracy"): 0.9,
    ("stop", "plateau"): 2,
    ("stop", "hours"): 8.0,
    ("tick", "wait_h"): 2.0,
    ("tick", "max_age_h"): 2.0,
    ("labels", "sets"): [{"uri": "x"}],
    ("labels", "renamed"): {"kitten": "cat"},
    ("demo",): "digits",
    ("taxonomy",): ["dog", "cat"],
    ("model", "mean"): [0.5, 0.5, 0.4],
    ("model", "std"): [0.25, 0.25, 0.2],
    ("pool", "tar_ids"): "path",
    ("pool", "metadata"): ["camera"],
    ("pool", "max_unreadable_files"): 3,
    ("resources", "memory"): 2**30,
    ("storage", "endpoint"): "http://x",
    ("storage", "region"): "eu",
    ("storage", "places"): [{"uri": "s3://another"}],
}


KEYS = ("access_key_env", "secret_key_env", "session_token_env")


TOGETHER = dict.fromkeys(KEYS, KEYS)  # one without the other is refused


def leaves(model: type[BaseModel], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += leaves(inner, (*path, name))
        else:
            found.append((*path, name))
    return found


@pytest.mark.parametrize("path", leaves(Config), ids=".".join)
def test_every_value_is_part_of_the_identity_but_those_of_the_runtime(path: tuple[str, ...]) -> None:
    needed = {
        ("scoring", "options"): ["scoring.score=knn"],
        ("query", "options"): ["query.strategy=typiclust"],
        ("train", "optimizer"): ["train.lr=0.01"],
    }
    sets = ["oracle.initial=i", *needed.get(path, [])]
    data = json.loads(parse(PLAIN, "x.yaml", sets).model_dump_json())
    plain = Config.model_validate_json(json.dumps(data))
    place = data
    for key in path[:-1]:
        place = place[key]
    for name in TOGETHER.get(path[-1], (path[-1],)):
        place[name] = OTHERS[path] if path in OTHERS else changed(place[name])
    other = Config.model_validate_json(json.dumps(data))
    assert other != plain
    assert (other.digest() == plain.digest()) == bool({path[0], ".".join(path)} & RUNTIME)


def test_the_digest_does_not_depend_on_how_the_file_is_written() -> None:
    one = parse(PLAIN + "train: {lr: 0.5, epochs: 3}\n", "x.yaml")
    two = parse("train:\n  epochs: 3\n  lr: 5e-1\n" + PLAIN + "seed: 0 # the default\n", "y.yaml")
    assert one == two
    assert one.digest() == two.digest()


@pytest.mark.parametrize(
    ("renamed", "message"),
    [
        ("{hound: dog, dog: cat}", "'hound' is called 'dog', which is renamed itself"),
        ("{dog: wolf}", "'dog' is called 'wolf' now, but the taxonomy still has the old name"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(renamed: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(f"{PLAIN}labels: {{renamed: {renamed}}}\n", "x.yaml")


def test_classes_of_an_earlier_day_have_their_names_of_today() -> None:
    config = parse(f"{PLAIN}labels: {{renamed: {{hound: dog, puppy: dog, tom: cat}}}}\n", "x.yaml")
    assert config.called_now(("tom", "hound")) == ("cat", "dog")
    assert config.called_now(("cat", "dog", "puppy")) == ("cat", "dog", "puppy"), "merged: its place stays"
    assert config.called_now(("hound", "puppy", "owl")) == ("dog", "puppy", "owl")


def test_a_labeled_set_is_enough_to_start_from() -> None:
    people = "workspace: w\ntaxonomy: [cat, dog]\npool: {uri: p}\n"
    assert parse(f"{people}labels: {{sets: [{{uri: s}}]}}\n", "x.yaml").labels.sets[0].label_column == "label"
    with pytest.raises(ConfigError, match=r"oracle\.initial, .* or labels\.sets"):
        parse(people, "x.yaml")
    with pytest.raises(ConfigError, match="name each place once"):
        parse(f"{people}labels: {{sets: [{{uri: s}}, {{uri: s/}}]}}\n", "x.yaml")
