"""Configs of active-learning studies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.config.choices import Committee
from pipeline.config.sections import Bank, Name, Positive, Section, Share, Uri
from pipeline.studies.sections import Choice, Count, ImageSet, Study, Training, check_choice, refuse_twice


class Space(Bank):
    """Options of SISOM's bank, made from the labeled set each round.

    The defaults are `sisom.bank.spec.STUDIES`.
    """

    slopes: Name | Positive | dict[str, Positive] = "cifar10"
    subset: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    neighbors: Count = 1


class Strategy(Choice):
    """A selector and its options.

    `filter`, for open sets, hides the images from it whose energy looks far. The labeled far images set the limit.
    """

    filter: bool = False

    def selector(self, head: Any = None) -> Any:
        """Build the selector.

        `head` is the network's last layer, for the selectors that need it.
        """
        import sisom

        return sisom.build_selector(self.name, head=head, **self.options)


class OpenSet(Section):
    """Rules of a pool with unknown classes and far images.

    The first classes, a share of `known`, are known from the start. Another class becomes known when `promote` of its
    images are labeled. The images of `far` lie in the pool and are of no class; the labeled ones among them teach the
    network to be unsure, with weight `exposure`.
    """

    known: Annotated[float, Field(gt=0.0, le=1.0)] = 0.6
    far: tuple[ImageSet, ...] = ()
    exposure: Annotated[float, Field(ge=0.0)] = 0.5
    promote: Count = 100


class ActiveStudy(Study):
    """A study of strategies x seeds x rounds.

    It starts from a fully labeled set.
    """

    study: Literal["active-learning"]
    pool: ImageSet
    test: ImageSet
    initial: Annotated[int, Field(ge=2)]
    query: Count
    rounds: Annotated[int, Field(ge=2, le=999)]
    strategies: Annotated[tuple[Strategy, ...], Field(min_length=1)]
    train: Training = Training()
    start: Uri | None = None
    space: Space = Space()
    committee: Committee = Committee()
    targets: tuple[Share, ...] = ()
    open_set: OpenSet | None = None

    @model_validator(mode="after")
    def _known_strategies(self) -> ActiveStudy:
        import sisom

        for choice in self.strategies:
            check_choice("strategies", choice, sisom.SELECTORS, build=choice.selector)
            if choice.filter and self.open_set is None:
                raise ValueError(f"strategies: {choice.label} filters, which needs open_set")
        refuse_twice("strategies", (choice.label for choice in self.strategies))
        return self
