"""The config of a project: one frozen model a section.

Values and catalogue names, never import paths. `config.load.load` reads one from a file.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.choices import QueryPlan, Scoring
from pipeline.config.sections import (
    Bank,
    Labels,
    Model,
    Name,
    OpenWorld,
    Oracle,
    Pool,
    Resources,
    Section,
    Slopes,
    Stop,
    Storage,
    Test,
    Tick,
    Tracking,
    Uri,
)
from pipeline.config.training import Train
from pipeline.encoding import canonical
from pipeline.errors import nearest

MAX_CLASSES = 100_000
PINNED_POOL = ("uri", "id_column", "image_column", "tar_ids")
FREE = ("workspace", "rounds", "stop", "resources", "tick", "tracking", "storage")
# May be raised once a round has stopped at them: they decide whether to go on, not the results.
FREE_SCORING = ("max_quarantined",)
FREE_POOL = ("max_unreadable_files",)


class Config(Section):
    """The complete config of a project."""

    workspace: Uri
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    rounds: Annotated[int, Field(ge=1, le=999)] = 10
    taxonomy: tuple[Name, ...]
    demo: Literal["digits"] | None = None
    pool: Pool
    test: Test = Test()
    oracle: Oracle = Oracle()
    labels: Labels = Labels()
    model: Model = Model()
    train: Train = Train()
    slopes: Slopes = Slopes()
    bank: Bank = Bank()
    scoring: Scoring = Scoring()
    query: QueryPlan = QueryPlan()
    open_world: OpenWorld = OpenWorld()
    stop: Stop = Stop()
    resources: Resources = Resources()
    tick: Tick = Tick()
    tracking: Tracking = Tracking()
    storage: Storage = Storage()

    @field_validator("taxonomy")
    @classmethod
    def _classes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not 2 <= len(names) <= MAX_CLASSES:
            raise ValueError(f"needs 2 to {MAX_CLASSES} class names, got {len(names)}")
        twice = sorted(name for name, times in Counter(names).items() if times > 1)
        if twice:
            raise ValueError(f"class names must differ; twice: {', '.join(twice[:5])}")
        return names

    @model_validator(mode="after")
    def _whole(self) -> Config:
        if self.demo is not None and len(self.pool.uris) > 1:
            raise ValueError("pool.uri: the demo makes its data at one place")
        if self.demo is None and self.oracle.kind == "simulated" and self.oracle.truth is None:
            raise ValueError("oracle.kind: simulated needs oracle.truth, a table of id, label, kind")
        if (
            self.demo is None
            and self.oracle.kind == "people"
            and not (self.oracle.initial or self.labels.sets)
        ):
            raise ValueError(
                "oracle.kind: people needs oracle.initial, a table of id, label to start from, or labels.sets"
            )
        self._check_renamed()
        if unknown := self.train.unknown_classes(self.taxonomy):
            raise ValueError(
                f"train.class_weights: {unknown[0]!r} is not in the taxonomy; {nearest(unknown[0], self.taxonomy)}"
            )
        for where, table in (("slopes.default", self.slopes.default), ("slopes.grid", self.slopes.grid)):
            if isinstance(table, Mapping):
                for layer in table:
                    if layer not in self.model.layers:
                        self._check_layers()
                        hint = nearest(layer, self.model.layers)
                        raise ValueError(f"{where}: {layer!r} is not one of model.layers; {hint}")
        missing = [layer for layer in self.model.layers if layer not in self.slope_defaults()]
        if missing:
            self._check_layers()
            raise ValueError(f"slopes.default: no slope for {', '.join(missing)}")
        if not self._streams():
            raise ValueError(
                f"query.strategy: {self.query.strategy!r} is a detector, and scoring.score is another one, "
                f"{self.scoring.score!r}"
            )
        if self.slopes.search == "grid" and set(self.slopes.grid) != set(self.model.layers):
            raise ValueError("slopes.grid: needs a list for each of model.layers")
        return self

    def _check_renamed(self) -> None:
        for old, new in self.labels.renamed.items():
            if old in self.taxonomy and new not in self.taxonomy:
                raise ValueError(
                    f"labels.renamed: {old!r} is called {new!r} now, but the taxonomy still has the old name; write "
                    "the new one in its place"
                )

    def _streams(self) -> bool:
        """Return whether the strategy is a selector or the pool's detector."""
        import sisom

        return self.query.strategy in (*sisom.SELECTORS, self.scoring.score)

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Columns of score files beside the bank's scores."""
        wanted = {"strangeness": not self.scoring.from_bank, "priority": self.query.ranking is not None}
        return tuple(name for name, asked in wanted.items() if asked)

    def _check_layers(self) -> None:
        """Raise for a layer that the model lacks.

        Called first where slopes and layers disagree, since a wrong layer is the better explanation.
        """
        import sisom

        try:
            sisom.check_layers(sisom.build_model(self.model.name, 2, seed=0), self.model.layers)
        except sisom.errors.LayerError as error:
            raise ValueError(f"model.layers: {error}") from None

    @property
    def test_uri(self) -> str | None:
        """The URI of the held-out set.

        The demo's lies beside its pool unless the config says otherwise.
        """
        return self.test.uri or (_beside(self.pool.uris[0], "test") if self.demo else None)

    @property
    def truth_uri(self) -> str | None:
        """The URI of the simulated oracle's truths.

        The demo's lie beside its pool unless the config says otherwise.
        """
        return self.oracle.truth or (_beside(self.pool.uris[0], "truth") if self.demo else None)

    def called_now(self, taxonomy: Sequence[str]) -> tuple[str, ...]:
        """Return classes of an earlier day by their names of today.

        A class whose new name is another class's keeps its place under the old one: it was merged, and nothing is
        called so any more.
        """
        now: list[str] = []
        for old in taxonomy:
            new = self.labels.renamed.get(old, old)
            now.append(old if new in taxonomy or new in now else new)
        return tuple(now)

    def pool_of_set(self, number: int) -> Pool:
        """Return the place and the columns of a labeled set's images."""
        one = self.labels.sets[number]
        columns = {
            "id_column": one.id_column or self.pool.id_column,
            "image_column": one.image_column or self.pool.image_column,
        }
        return self.pool.model_copy(update={"uri": one.uri, **columns})

    def slope_defaults(self) -> dict[str, float]:
        """Return the slope of each layer before any search."""
        default = self.slopes.default
        return dict(default) if isinstance(default, dict) else dict.fromkeys(self.model.layers, default)

    def pinned(self) -> dict[str, Any]:
        """Return the values that a workspace keeps for life.

        They are the pool with its ids, and the order of the classes.
        """
        return self.model_dump(mode="json", include={"taxonomy": True, "pool": set(PINNED_POOL)})

    def frozen(self) -> dict[str, Any]:
        """Return the values that a round freezes: all that decide its results."""
        return self.model_dump(
            mode="json",
            exclude={**dict.fromkeys(FREE, True), "scoring": set(FREE_SCORING), "pool": set(FREE_POOL)},
        )

    def free(self) -> dict[str, Any]:
        """Return the values that are always those of the current config.

        They hold for planned rounds too: where, how long and on what the work runs.
        """
        return self.model_dump(mode="json", include={*FREE})

    def digest(self) -> str:
        """Return the SHA-256 of `frozen()` in canonical JSON."""
        return hashlib.sha256(canonical(self.frozen())).hexdigest()


def _beside(uri: str, name: str) -> str:
    head, _, _ = uri.rstrip("/").rpartition("/")
    return f"{head}/{name}" if head else name
