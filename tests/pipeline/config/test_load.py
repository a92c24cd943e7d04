"""Reading configs: what is refused, and where the message points."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.load import MAX_CONFIG_BYTES, dump, load, parse
from pipeline.config.project import Config
from pipeline.errors import ConfigError

QUICKSTART = Path(__file__).parents[3] / "configs" / "quickstart.yaml"
PLAIN = "workspace: w\ntaxonomy: [cat, dog]\npool: {uri: p}\noracle: {kind: simulated, truth: t}\n"


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        parse(text, "x.yaml", overrides)
    message = str(raised.value)
    assert "\n" not in message
    return message


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("quary: {size: 3}", "x.yaml: quary: unknown key; did you mean query?"),
        ("query: {sise: 3}", "x.yaml: query.sise: unknown key; did you mean size?"),
        ("train: {augment: {padd: 3}}", "x.yaml: train.augment.padd: unknown key; did you mean pad?"),
        ("seed: {a: 1}", "x.yaml: seed: input should be a valid integer"),
        ("seed: true", "x.yaml: seed: input should be a valid integer (got 'True')"),
        ("seed: '7'", "x.yaml: seed: input should be a valid integer (got '7')"),
        ("seed: -1", "x.yaml: seed: input should be greater than or equal to 0 (got '-1')"),
        ("seed: 2147483648", "x.yaml: seed: input should be less than 2147483648"),
        ("seed:", "x.yaml: seed: input should be a valid integer (got 'None')"),
        ("rounds: 1.5", "x.yaml: rounds: input should be a valid integer (got '1.5')"),
        ("train: {lr: true}", "x.yaml: train.lr: input should be a valid number (got 'True')"),
        ("train: {lr: .nan}", "x.yaml: train.lr: input should be a finite number (got 'nan')"),
        ("train: {lr: .inf}", "x.yaml: train.lr: input should be a finite number (got 'inf')"),
        ("train: {lr: 0}", "x.yaml: train.lr: input should be greater than 0 (got '0')"),
        ("train: {start: freshh}", "x.yaml: train.start: input should be 'fresh' or 'last' (got 'freshh')"),
        ("train: {epochs: 1e2}", "x.yaml: train.epochs: input should be a valid integer (got '100.0')"),
        ("train: 3", "x.yaml: train: input should be an object (got '3')"),
        ("model: {name: resnet10_w61}", "unknown model 'resnet10_w61'; did you mean resnet10_w16?"),
        ("model: {layers: []}", "x.yaml: model.layers: name at least one layer, each once"),
        ("model: {layers: [a, a]}", "x.yaml: model.layers: name at least one layer, each once"),
        ("model: {layers: [a, 3]}", "x.yaml: model.layers.1: input should be a valid string (got '3')"),
        ("query: {strategy: sisomee}", "query.strategy: unknown strategy 'sisomee'; did you mean sisome?"),
        ("query: {strategy: zzz}", "'zzz'; known: badge, bald, base, class-balanced, coreset, energy, entropy,"),
        ("slopes: {low: 2, high: 1}", "x.yaml: slopes: low (2) must be below high (1)"),
        ("slopes: {low: 1, high: 1}", "x.yaml: slopes: low (1) must be below high (1)"),
        ("slopes: {search: grid}", "x.yaml: slopes: search: grid needs `grid`, a list of slopes a layer"),
        ("slopes: {search: grid, grid: {layer1: [1.0]}}", "x.yaml: slopes.grid: needs a list for each of"),
        ("slopes: {grid: {layr1: [1.0]}}", "slopes.grid: 'layr1' is not one of model.layers; did you mean layer1?"),
        ("slopes: {default: {layer1: 1.0}}", "slopes.default: no slope for layer2, layer3, avgpool"),
        ("slopes: {default: {layer1: x}}", "x.yaml: slopes.default.layer1: input should be a valid number (got 'x')"),
        ("slopes: {default: {layer1: 0}}", "x.yaml: slopes.default.layer1: input should be greater than 0"),
        ("slopes: {default: -1}", "x.yaml: slopes.default: input should be greater than 0 (got '-1')"),
        ("scoring: {keep: 1.0}", "x.yaml: scoring.keep: input should be less than 1"),
        ("bank: {subset: 0}", "x.yaml: bank.subset: input should be greater than 0"),
        ("test: {uri: ''}", "x.yaml: test.uri: string should have at least 1 character"),
        ('test: {uri: "a\\0b"}', "x.yaml: test.uri: holds control characters"),
        ('tracking: {experiment: "a\\e[2Jb"}', "x.yaml: tracking.experiment: holds control characters"),
        ("2: 3", "line 5, column 1: key 2 is not text"),
        ("[a]: 3", "line 5, column 1: key ['a'] is not text"),
        ("seed: 1\nseed: 2", "x.yaml, line 6, column 1: key 'seed' stands here a second time"),
        ("train: {lr: 1, lr: 2}", "x.yaml, line 5, column 16: key 'lr' stands here a second time"),
        ("test: &a {uri: x}\ntrain: *a", "x.yaml: YAML aliases (*name) are not read here"),
        ("train:\n\tlr: 1", "x.yaml, line 6, column 1: found character '\\t'"),
        ("train: [1", "x.yaml, line "),
        ("seed: \x00", "x.yaml: unacceptable character #x0000"),
        ('seed: "\\ud800"', "x.yaml: holds text that is not valid Unicode"),
        ("seed: 2024-01-01", "x.yaml: seed: input should be a valid integer (got '2024-01-01')"),
        ("seed: 2024-13-45", "x.yaml: seed: input should be a valid integer (got '2024-13-45')"),
        ("seed: !!int abc", "x.yaml: not a number"),
        ("seed: !!binary aGk=", "x.yaml, line 5, column 7: could not determine a constructor"),
        ("seed: !!python/name:os.system", "x.yaml, line 5, column 7: could not determine a constructor"),
        ("seed: !!set {a, b}", "x.yaml, line 5, column 7: could not determine a constructor"),
        ("<<: {seed: 1}", "x.yaml, line 5, column 1: could not determine a constructor"),
        (f"seed: {'1' * 5000}", "x.yaml: not a number"),
        (f"slopes: {'[' * 1000}{']' * 1000}", "x.yaml: nested too deeply"),
        ("---\nseed: 1", "x.yaml, line 5, column 1: but found another document"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(lines: str, message: str) -> None:
    assert message in refusal(PLAIN + lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.yaml: expected `key: value` lines, got NoneType"),
        ("- a\n- b", "x.yaml: expected `key: value` lines, got list"),
        ("hello", "x.yaml: expected `key: value` lines, got str"),
        (PLAIN.replace("workspace: w\n", ""), "x.yaml: workspace: missing, and it has no default"),
        (PLAIN.replace("{uri: p}", "{}"), "x.yaml: pool.uri: missing, and it has no default"),
        (PLAIN.replace("[cat, dog]", "[cat]"), "x.yaml: taxonomy: needs 2 to 100000 class names, got 1"),
        (PLAIN.replace("[cat, dog]", "[cat, dog, cat]"), "x.yaml: taxonomy: class names must differ; twice: cat"),
        (PLAIN.replace("[cat, dog]", "[cat, 3]"), "x.yaml: taxonomy.1: input should be a valid string (got '3')"),
        (PLAIN.replace("[cat, dog]", "[yes, no]"), "x.yaml: taxonomy.0: input should be a valid string"),
        (PLAIN.replace(", truth: t", ""), "oracle.kind: simulated needs oracle.truth, a table of id, label, kind"),
        (PLAIN.replace("simulated, truth: t", "people"), "oracle.kind: people needs oracle.initial"),
    ],
)  # fmt: skip
def test_what_the_file_as_a_whole_lacks(text: str, message: str) -> None:
    assert message in refusal(text)


def test_more_faults_are_counted_and_the_error_carries_the_path() -> None:
    with pytest.raises(ConfigError, match=r"seed: .* \(and 2 more\)") as raised:
        parse(PLAIN + "seed: x\nrounds: y\ntrain: {augment: {pad: -1}}", "x.yaml")
    assert raised.value.path == "seed"
    assert [fault.partition(":")[0] for fault in raised.value.faults] == [
        "seed",
        "rounds",
        "train.augment.pad",
    ]


def test_dates_and_exponents_are_read_as_people_mean_them() -> None:
    config = parse(PLAIN.replace("[cat, dog]", "[2024-01-01, 1e3x]") + "train: {lr: 1e-3}\n", "x.yaml")
    assert config.taxonomy == ("2024-01-01", "1e3x")
    assert config.train.lr == 0.001


# --------------------------------------------------------------------------------------------------- files


def test_a_missing_file_names_its_nearest_sibling(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text(PLAIN)
    with pytest.raises(ConfigError, match=r"no such file \(did you mean quickstart\.yaml\?\)"):
        load(tmp_path / "quikstart.yaml")
    with pytest.raises(ConfigError, match=r"no such file$"):
        load(tmp_path / "no" / "folder.yaml")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xfe\x00a", "cannot be read"),
        (b"workspace: caf\xe9\n", "cannot be read"),
        (b"#" * (MAX_CONFIG_BYTES + 1), f"too large for a config .at most {MAX_CONFIG_BYTES} bytes"),
    ],
)
def test_a_file_that_is_no_config(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.yaml").write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path / "x.yaml")


def test_a_folder_a_null_byte_and_an_endless_device(tmp_path: Path) -> None:
    for path, message in ((tmp_path, "Is a directory"), ("a\0b", "null byte"), ("/dev/zero", "too large")):
        with pytest.raises(ConfigError, match=message):
            load(path)


def test_a_file_at_the_limit_is_read(tmp_path: Path) -> None:
    data = PLAIN.encode()
    (tmp_path / "x.yaml").write_bytes(data + b"#" * (MAX_CONFIG_BYTES - len(data)))
    assert load(tmp_path / "x.yaml") == parse(PLAIN, "x.yaml")


def test_the_quickstart_loads() -> None:
    config = load(QUICKSTART)
    assert config.demo == "digits"
    assert (config.test_uri, config.truth_uri) == ("runs/quickstart-data/test", "runs/quickstart-data/truth")
    assert config.slope_defaults().keys() == set(config.model.layers)


# ----------------------------------------------------------------------------------------------- overrides


def test_overrides_replace_values_at_any_depth_in_order() -> None:
    sets = [
        "seed=1",
        "train.augment.pad=2",
        "train.lr=1e-3",
        "seed=2",
        "workspace=s3://b/p",
        "query={size: 3}",
    ]
    config = parse(PLAIN, "x.yaml", sets)
    assert (config.seed, config.train.augment.pad, config.train.lr) == (2, 2, 0.001)
    assert (config.workspace, config.query.size) == ("s3://b/p", 3)
    assert config.pool.uri == "p"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("seed", "--set seed: write it as key.path=value"),
        ("=1", "--set =1: write it as key.path=value"),
        ("a..b=1", "--set a..b=1: write it as key.path=value"),
        ("pool.uri.x=1", "--set pool.uri.x=1: uri holds a value, not a section"),
        ("taxonomy.0=x", "--set taxonomy.0=x: taxonomy holds a value, not a section"),
        ("query.sise=1", "query.sise: unknown key; did you mean size?"),
        ("quary.size=1", "quary: unknown key; did you mean query?"),
        ("seed=", "seed: input should be a valid integer (got 'None')"),
        ("seed=[", "--set seed, line 1, column 2"),
        ("seed=*a", "--set seed: YAML aliases"),
        ("pool=5", "pool: input should be an object (got '5')"),
    ],
)
def test_a_wrong_override_is_named(assignment: str, message: str) -> None:
    assert message in refusal(PLAIN, assignment)


# ---------------------------------------------------------------------------------------- identity, digest


@settings(max_examples=30)
@given(
    names=st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1, max_size=20),
        min_size=2,
        max_size=5,
        unique=True,
    ),
    lr=st.floats(1e-300, 1e300),
    seed=st.integers(0, 2**31 - 1),
)
def test_what_is_printed_reads_back_equal(names: list[str], lr: float, seed: int) -> None:
    config = parse(PLAIN, "x.yaml")
    data = json.loads(config.model_dump_json()) | {"taxonomy": names, "seed": seed}
    data["train"]["lr"] = lr
    config = Config.model_validate_json(json.dumps(data))
    assert parse(dump(config), "shown") == config


LOOKS = [
    "1e3",
    "1e-3",
    "1.5E+4",
    "yes",
    "null",
    "~",
    "0",
    "0x1f",
    "1:30",
    "2024-01-01",
    "#",
    "- a",
    "a: b",
    " ",
]


@pytest.mark.parametrize("name", LOOKS)
def test_class_names_that_look_like_something_else_are_printed_as_names(name: str) -> None:
    data = json.loads(parse(PLAIN, "x.yaml").model_dump_json()) | {"taxonomy": [name, "other"]}
    config = Config.model_validate_json(json.dumps(data))
    assert parse(dump(config), "shown").taxonomy == config.taxonomy


@settings(max_examples=300)
@given(st.one_of(st.text(max_size=60), st.text("{}[]:,-?&*!|>'\"%@`#~<\n\t 0123456789.eE_xab", max_size=40)))
def test_no_text_ends_in_anything_but_a_refusal(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text, "x.yaml")
    try:
        parse(PLAIN, "x.yaml", [f"seed={text}"])
    except ConfigError:
        return
    assert isinstance(yaml.safe_load(text), int)  # the only texts that pass


def test_sections_build_banks_by_the_library_s_named_sets() -> None:
    from pipeline.config.sections import Bank
    from pipeline.studies.ablation.config import Variant
    from pipeline.studies.active.config import Space
    from sisom.bank.spec import ROUNDS, STUDIES

    assert Bank().spec == ROUNDS
    assert Space().spec == Variant().spec == STUDIES
    changed = Variant(subset=0.2, outer="anchor", neighbors=3)
    assert changed.spec == replace(STUDIES, subset=0.2, outer="anchor", neighbors=3)


@pytest.mark.parametrize(
    "text",
    [
        "s3://b/batch #1",
        "s3://b/a: b",
        "[x]",
        "{x}",
        "*x",
        "&x",
        "@x",
        "!x",
        "no",
        "1e3",
        "2026-01-02",
        "- x",
        "x:",
        "| y",
    ],
)
def test_an_override_of_a_key_of_text_is_that_text(text: str) -> None:
    assert parse(PLAIN, "c.yaml", [f"pool.id_column={text}"]).pool.id_column == text


def test_an_override_in_quotes_is_what_they_hold_and_null_is_nothing() -> None:
    assert parse(PLAIN, "c.yaml", ['pool.id_column=" x "']).pool.id_column == " x "
    assert parse(PLAIN, "c.yaml", ["pool.id_column='null'"]).pool.id_column == "null"
    assert parse(PLAIN, "c.yaml", ["test.uri=t", "test.uri=null"]).test.uri is None
    assert parse(PLAIN, "c.yaml", ["query.size=7", "train.augment={pad: 2}"]).query.size == 7


@pytest.mark.parametrize("word", ["no", "yes", "on", "12:30", "0", "1.5"])
def test_a_class_that_yaml_takes_for_something_else_says_to_quote_it(word: str) -> None:
    with pytest.raises(ConfigError, match="put the word in quotes"):
        parse(PLAIN.replace("[cat, dog]", f"[cat, {word}]"), "c.yaml")
    assert parse(PLAIN.replace("[cat, dog]", f"[cat, '{word}']"), "c.yaml").taxonomy == ("cat", word)


def test_an_override_of_a_list_of_texts_may_be_one_of_them() -> None:
    assert parse(PLAIN, "c.yaml", ["pool.include=*.jpg"]).pool.include == ("*.jpg",)
    assert parse(PLAIN, "c.yaml", ["pool.include=[x]/*.jpg"]).pool.include == ("[x]/*.jpg",)
    assert parse(PLAIN, "c.yaml", ["pool.include=['*.jpg', b.png]"]).pool.include == ("*.jpg", "b.png")
    with pytest.raises(ConfigError, match=r"--set pool.include.*in quotes, as in"):
        parse(PLAIN, "c.yaml", ["pool.include=[*.jpg]"])
    with pytest.raises(ConfigError, match="needs 2 to 100000 class names, got 1"):
        parse(PLAIN, "c.yaml", ["taxonomy=cat"])
