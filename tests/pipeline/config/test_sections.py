"""Rules of the config's sections."""

from __future__ import annotations

import pytest

from pipeline.config.load import parse
from pipeline.config.sections import Pool
from pipeline.errors import ConfigError
from pipeline.images.decode import Transform
from pipeline.labels.forms.rows import QUESTIONS
from pipeline.types import QUARANTINE, QUERY, SCORED

PLAIN = "workspace: w\ntaxonomy: [cat, dog]\npool: {uri: p}\noracle: {kind: simulated, truth: t}\n"


def test_a_model_declares_what_becomes_of_an_image() -> None:
    model = parse(PLAIN + "model: {image_size: 224, resize: 256, interpolation: bicubic}\n", "x.yaml").model
    assert model.transform(99) == Transform(224, 256, "bicubic", 99)


def test_a_crop_beyond_the_image_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"resize \(31\) must not be below image_size \(32\)"):
        parse(PLAIN + "model: {resize: 31}\n", "x.yaml")


def of_pool(text: str) -> Pool:
    plain = "workspace: w\ntaxonomy: [cat, dog]\noracle: {kind: simulated, truth: t}\n"
    return parse(f"{plain}pool: {text}\n", "x.yaml").pool


def test_a_pool_has_one_place_or_several() -> None:
    assert of_pool("{uri: a}").uris == of_pool("{uri: [a]}").uris == ("a",)
    assert of_pool("{uri: [a]}") == of_pool("{uri: a}")
    several = of_pool("{uri: [s3://b/a, s3://b/ab, s3://b/a-]}")
    assert several.uris == ("s3://b/a", "s3://b/ab", "s3://b/a-")
    assert several.place == "s3://b/a and 2 more"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{uri: []}", "pool.uri: name at least one place"),
        ("{uri: [a, b, a/]}", "pool.uri: a lies in a: its images would count twice"),
        (
            "{uri: [s3://b/x/y, s3://b/x-, s3://b/x/]}",
            "pool.uri: s3://b/x/y lies in s3://b/x: its images would",
        ),
        ("{uri: 5}", r"pool.uri: input should be a valid string"),
        ("{uri: a, metadata: [camera, camera]}", "pool.metadata: name each column once"),
        (
            "{uri: a, metadata: [sisome]}",
            "pool.metadata: 'sisome' is a column that score files, queries or exports",
        ),
        ("{uri: a, metadata: [image]}", "pool.metadata: 'image' is a column"),
        ("{uri: a, max_unreadable_files: -1}", "pool.max_unreadable_files: input should be greater"),
    ],
)
def test_what_no_pool_can_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        of_pool(text)


def test_no_column_that_is_written_can_be_one_of_metadata() -> None:
    for name in {*SCORED.names, *QUARANTINE.names, *QUERY.names, *QUESTIONS.names}:
        with pytest.raises(ConfigError, match=r"pool\.metadata"):
            of_pool(f"{{uri: a, metadata: [{name}]}}")
