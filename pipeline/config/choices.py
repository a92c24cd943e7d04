"""The config's choices from the catalogue: detector, strategy, committee."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.sections import Name, Section, Share
from pipeline.errors import nearest

BANK_SCORES = ("sisome", "sisom", "energy")


class Scoring(Section):
    """The score of the pool, and the threshold for out of distribution.

    `score` is the bank's `sisome`, `sisom` or `energy`, or any detector of the catalogue, with its `options`.
    """

    batch_size: Annotated[int, Field(ge=1, le=4096)] = 256
    score: Name = "sisome"
    options: dict[Name, bool | int | float | str] = Field(default_factory=dict)
    keep: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    max_quarantined: Share = 0.01
    max_pixels: Annotated[int, Field(ge=1)] = 50_000_000
    max_bytes: Annotated[int, Field(ge=1, le=2**31)] = 256 << 20

    @field_validator("score")
    @classmethod
    def _in_catalogue(cls, name: str) -> str:
        import sisom

        if name in BANK_SCORES:
            return name
        if name not in sisom.DETECTORS:
            raise ValueError(f"unknown detector {name!r}; {nearest(name, sisom.DETECTORS)}")
        return name

    @model_validator(mode="after")
    def _options(self) -> Scoring:
        if self.options and self.from_bank:
            raise ValueError(
                f"options: {self.score} comes out of the bank and takes none; see the section bank"
            )
        return self

    @property
    def from_bank(self) -> bool:
        """True if the score is one of the bank's own."""
        return self.score in BANK_SCORES

    @property
    def moves_images(self) -> bool:
        """True if the detector changes images before extraction, labeled ones too."""
        import sisom

        return not self.from_bank and "model" in getattr(sisom.DETECTORS[self.score], "needs", ())

    @property
    def column(self) -> str:
        """The score's column in score files."""
        return self.score if self.from_bank else "strangeness"


class Committee(Section):
    """The committee of strategies that need votes.

    For `bald`, the network itself with `dropout` before its classifier; for `qbc-vote` and `qbc-kl`, networks of which
    each is trained from a seed of its own. The round's network is one of the `members`.
    """

    members: Annotated[int, Field(ge=2, le=1000)] = 10
    dropout: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5


class QueryPlan(Section):
    """The size and strategy of a query, and its strange share.

    `strategy` is a selector of the catalogue, with its `options`, or the detector that scores the pool. `ood_share` of
    a query goes to rows out of distribution. Once people have called some images out of this world, a filter tells the
    novel from the far, and the far get no more than `far_share` of the query, within `ood_share`.
    """

    size: Annotated[int, Field(ge=1)] = 100
    strategy: Name = "sisome"
    options: dict[Name, bool | int | float | str] = Field(default_factory=dict)
    committee: Committee = Committee()
    ood_share: Share = 0.1
    far_share: Share = 0.02

    @field_validator("strategy")
    @classmethod
    def _in_catalogue(cls, name: str) -> str:
        if name in BANK_SCORES:
            return name
        import sisom

        if name not in sisom.SELECTORS and name not in sisom.DETECTORS:
            raise ValueError(f"unknown strategy {name!r}; {nearest(name, sisom.SELECTORS)}")
        return name

    @model_validator(mode="after")
    def _options(self) -> QueryPlan:
        if not self.options:
            return self
        import sisom

        if self.strategy not in sisom.SELECTORS:
            raise ValueError(f"options: {self.strategy} is a detector; its options are scoring.options")
        self.selector()
        return self

    def selector(self, **more: Any) -> Any:
        """Build the strategy's selector; `options` take precedence over `more`."""
        import sisom

        given: dict[str, Any] = more | self.options
        return sisom.build_selector(self.strategy, **given)

    @property
    def ranking(self) -> Any:
        """The selector that ranks rows while they are scored, or None."""
        import sisom
        from sisom.selectors.base import RowSelector

        if self.strategy not in sisom.SELECTORS:
            return None
        selector = self.selector()
        ranking = getattr(selector, "of", selector)
        of_rows = isinstance(ranking, RowSelector)
        return ranking if of_rows and ranking.needs & {"features", "committee"} else None

    @property
    def together(self) -> bool:
        """True if the strategy needs the features of the whole pool together."""
        import sisom

        return self.strategy in sisom.SELECTORS and self.strategy not in sisom.ROW_SELECTORS

    @property
    def keeps(self) -> Literal["last", "deep"] | None:
        """The features that a whole-pool strategy needs: last layers, or all."""
        selector = self.selector() if self.together else None
        if selector is None or "features" not in selector.needs or self.ranking is not None:
            return None
        return "deep" if hasattr(selector, "slopes") else "last"

    @property
    def voters(self) -> Literal["dropout", "ensemble"] | None:
        """The committee's kind: one network with dropout, or several."""
        ranking = self.ranking
        return ranking.committee if ranking is not None and "committee" in ranking.needs else None

    @property
    def networks(self) -> int:
        """The number of networks that a round trains."""
        return self.committee.members if self.voters == "ensemble" else 1
