"""The simulated annotator and the first labels: determined by truths and seed, and refused where they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from pipeline.config.project import Config
from pipeline.encoding import to_parquet
from pipeline.errors import ConfigError, LabelError
from pipeline.labels import oracle
from pipeline.labels.oracle import Truth, initial, read_truth, simulated
from pipeline.store.opening import Store
from pipeline.workspace.artefacts import Workspace

MakeConfig = Callable[..., Config]
TRUTH = Truth(
    {"a": "cat", "b": "dog", "u": "bird", "f": "photo"},
    {"a": "known", "b": "known", "u": "unknown", "f": "far"},
)


@pytest.fixture
def with_truth(store: Store, make_config: MakeConfig) -> Callable[..., Config]:
    """A config whose truths are the given columns."""

    def make(columns: dict[str, Any], **settings: Any) -> Config:
        Workspace(store).write_table("truth.parquet", pa.table(columns))
        return make_config(
            oracle={"kind": "simulated", "truth": store.url("truth.parquet")} | settings.pop("oracle", {}),
            **settings,
        )

    return make


def many(per_class: int) -> dict[str, list[str]]:
    """Truths of cat and dog in equal numbers, with as many unknown ones among them."""
    rows = [(f"{kind}{n:03d}", label, kind) for n in range(per_class) for label, kind in KINDS]
    return {
        "id": [f"{label}-{name}" for name, label, _ in rows],
        "label": [label for _, label, _ in rows],
        "kind": [kind for *_, kind in rows],
    }


KINDS = (("cat", "known"), ("dog", "known"), ("bird", "unknown"))


def test_answers_are_the_truths() -> None:
    table = simulated(TRUTH, ["u", "b", "nobody", "f", "a"])
    assert [(row["id"], row["label"], row["status"]) for row in table.to_pylist()] == [
        ("a", "cat", "labeled"),
        ("b", "dog", "labeled"),
        ("f", None, "out-of-world"),
        ("nobody", None, "skipped"),
        ("u", None, "unknown-class"),
    ]


def test_a_name_comes_with_an_unknown_class_where_classes_may_join() -> None:
    table = simulated(TRUTH, ["u", "f", "a"], propose=True)
    assert [(row["id"], row["label"], row["status"]) for row in table.to_pylist()] == [
        ("a", "cat", "labeled"),
        ("f", None, "out-of-world"),
        ("u", "bird", "unknown-class"),
    ]


def test_a_class_that_has_joined_is_known(with_truth: Callable[..., Config]) -> None:
    config = with_truth(
        {"id": ["a", "u", "f"], "label": ["cat", "bird", "bird"], "kind": ["known", "unknown", "far"]}
    )
    assert read_truth(config).kinds["u"] == "unknown"
    grown = config.model_copy(update={"taxonomy": ("cat", "dog", "bird")})
    assert dict(read_truth(grown).kinds) == {"a": "known", "u": "known", "f": "far"}


def test_equal_queries_give_equal_bytes_at_any_time() -> None:
    assert to_parquet(simulated(TRUTH, ["b", "a"])) == to_parquet(simulated(TRUTH, ["a", "b"]))


def test_truths_are_read(with_truth: Callable[..., Config]) -> None:
    config = with_truth({"id": [1, 2], "label": ["cat", None], "kind": ["known", "far"]})
    truth = read_truth(config)
    assert dict(truth.kinds) == {"1": "known", "2": "far"}  # as the pool reads integer ids
    assert truth.labels["1"] == "cat"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a"], "kind": ["known"]}, "has no column 'label'"),
        ({"ids": ["a"], "label": ["cat"], "kind": ["far"]}, r"no column 'id'; did you mean ids\?"),
        ({"id": ["a"], "label": ["cat"], "kind": ["knwon"]}, r"has kind 'knwon'; did you mean known\?"),
        ({"id": ["a"], "label": ["cat"], "kind": pa.array([None], pa.string())}, "has kind 'None'"),
        ({"id": ["a"], "label": ["cta"], "kind": ["known"]}, r"'cta' known, but .*; did you mean cat\?"),
        ({"id": ["a"], "label": [3], "kind": ["known"]}, "'3' known, but it is not in the taxonomy"),
        ({"id": ["a"], "label": pa.array([None], pa.string()), "kind": ["known"]}, "'None' known, but"),
        ({"id": ["a", None], "label": ["cat"] * 2, "kind": ["known"] * 2}, "has 1 rows without an id"),
        ({"id": ["a", "b", "a"], "label": ["cat"] * 3, "kind": ["known"] * 3}, "has id 'a' more than once"),
    ],
)
def test_truths_that_do_not_fit_are_refused(
    with_truth: Callable[..., Config], columns: dict[str, Any], message: str
) -> None:
    config = with_truth(columns)
    with pytest.raises(LabelError, match=rf"oracle\.truth: .*{message}"):
        read_truth(config)


def test_truth_may_call_unknown_what_the_taxonomy_does_not_have(with_truth: Callable[..., Config]) -> None:
    assert read_truth(with_truth({"id": ["a"], "label": ["bird"], "kind": ["unknown"]})).labels == {
        "a": "bird"
    }


# ------------------------------------------------------------------------------------------------- initial


def test_first_labels_are_balanced_known_and_drawn_by_the_seed(with_truth: Callable[..., Config]) -> None:
    columns = many(40)
    draws = []
    for seed in (0, 0, 1):
        table = initial(with_truth(columns, seed=seed, oracle={"initial_per_class": 7}))
        assert Counter(table["label"].to_pylist()) == {"cat": 7, "dog": 7}
        assert set(table["status"].to_pylist()) == {"labeled"}
        assert all(row["id"].startswith(row["label"]) for row in table.to_pylist())
        draws.append(to_parquet(table))
    assert draws[0] == draws[1] != draws[2]


def test_first_labels_do_not_depend_on_the_order_of_the_truths(with_truth: Callable[..., Config]) -> None:
    columns = many(20)
    forward = to_parquet(initial(with_truth(columns, oracle={"initial_per_class": 3})))
    backward = {name: values[::-1] for name, values in columns.items()}
    assert to_parquet(initial(with_truth(backward, oracle={"initial_per_class": 3}))) == forward


def test_a_class_with_too_few_truths_is_named(with_truth: Callable[..., Config]) -> None:
    columns = many(5)
    assert initial(with_truth(columns, oracle={"initial_per_class": 5})).num_rows == 10
    config = with_truth(columns, taxonomy=["cat", "dog", "cow"], oracle={"initial_per_class": 5})
    with pytest.raises(LabelError, match=r"oracle\.initial_per_class: 5, but class 'cow' has only 0 truths"):
        initial(config)


@pytest.mark.parametrize("kind", ["people", "simulated"])
def test_a_given_file_comes_before_the_truths(
    store: Store, with_truth: Callable[..., Config], kind: str
) -> None:
    Workspace(store).write_table(
        "first.parquet",
        pa.table(
            {
                "id": [b"z", b"y", b"x", b"w"],
                "label": ["dog", None, "cat", None],
                "status": [None, "skipped", None, None],
            }
        ),
    )
    config = with_truth(many(5), oracle={"kind": kind, "initial": store.url("first.parquet")})
    assert [(row["id"], row["status"]) for row in initial(config).to_pylist()] == [
        ("x", "labeled"),
        ("y", "skipped"),
        ("z", "labeled"),
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a"], "label": ["cta"]}, r"row 0: label 'cta' is not in the taxonomy; did you mean cat\?"),
        (
            {"id": ["a", "b", "a"], "label": ["cat", "dog", "dog"]},
            "id 'a' stands twice, as 'cat' and as 'dog'",
        ),
        ({"id": ["a", "b"], "label": ["cat", "dog"], "status": [None, "unknown-class"]}, "row 1: .* at once"),
        ({"id": ["a", "b"], "label": ["cat", "cat"]}, "holds 'cat' alone; two classes are needed"),
        ({"id": ["a"], "label": pa.array([None], pa.string())}, "holds no label to start from"),
        (
            {"id": pa.array([], pa.string()), "label": pa.array([], pa.string())},
            "holds no label to start from",
        ),
    ],
)
def test_a_given_file_that_can_not_start_a_round_is_refused(
    store: Store, make_config: MakeConfig, columns: dict[str, Any], message: str
) -> None:
    Workspace(store).write_table("first.parquet", pa.table(columns))
    config = make_config(oracle={"kind": "people", "initial": store.url("first.parquet")})
    with pytest.raises(LabelError, match=rf"oracle\.initial: .*{message}"):
        initial(config)


def test_first_labels_may_be_a_table_of_text(store: Store, make_config: MakeConfig) -> None:
    def first(name: str, data: bytes) -> list[dict[str, Any]]:
        store.put(name, data)
        config = make_config(
            oracle={"kind": "people", "initial": store.url(name)}, taxonomy=["cat", "dog", "3"]
        )
        return initial(config).select(["id", "label"]).to_pylist()

    want = [{"id": "x", "label": "cat"}, {"id": "y", "label": "3"}]
    assert first("a.csv", b"ID;Label\r\ny;3.0\r\nx;cat\r\nz;\r\n") == want
    assert first("a.jsonl", b'{"id": "y", "label": 3.0}\n{"id": "x", "label": "cat"}\n') == want
    with pytest.raises(LabelError, match=r"oracle\.initial: .*b\.csv, row 3: label 'owl' is not"):
        first("b.csv", b"id,label\nx,cat\ny,owl\n")
    with pytest.raises(LabelError, match=r"oracle\.initial: .*b\.csv, row 3: 1 cells under 2 names"):
        first("b.csv", b"id,label\nx,cat\ny\n")


def test_labeled_sets_are_enough_to_start_from(store: Store, make_config: MakeConfig) -> None:
    sets = {"sets": [{"uri": store.url("set")}]}
    assert initial(make_config(oracle={"kind": "people"}, labels=sets)).num_rows == 0
    Workspace(store).write_table("first.parquet", pa.table({"id": ["a"], "label": ["cat"]}))
    config = make_config(oracle={"kind": "people", "initial": store.url("first.parquet")}, labels=sets)
    assert initial(config)["id"].to_pylist() == ["a"], "the other class may be in the set"


def test_people_without_a_file_to_start_from(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"oracle\.initial"):
        initial(make_config(demo="digits", oracle={"kind": "people"}))


def test_every_kind_of_truth_has_its_answer() -> None:
    truth = Truth(dict.fromkeys(oracle.KINDS, "cat"), {kind: kind for kind in oracle.KINDS})
    statuses = simulated(truth, oracle.KINDS)["status"].to_pylist()
    assert sorted(statuses) == ["labeled", "out-of-world", "unknown-class"]
