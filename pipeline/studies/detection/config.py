"""Config of the study of out-of-distribution detectors."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, model_validator

from pipeline.config.sections import Section
from pipeline.studies.on_networks import OnNetworks
from pipeline.studies.sections import Choice, Count, ImageSet, check_choice, refuse_twice


class Detection(Choice):
    """A detector and its options.

    It is fitted on all labeled images, or on a sample of `rows` with equal shares of the classes. `sweep` lists values
    of options, or is `published`; the best combination on `validation` is taken.
    """

    rows: Count | None = None
    sweep: Literal["published"] | dict[str, tuple[JsonValue, ...]] = Field(default_factory=dict)

    def swept(self) -> dict[str, list[Any]]:
        """Return the values to choose from, by option."""
        import sisom

        found = sisom.SWEEPS.get(self.name, {}) if isinstance(self.sweep, str) else self.sweep
        return {key: list(values) for key, values in found.items()}


class Validation(Section):
    """Known and unknown images to choose hyper-parameters by.

    No detector is tested on them.
    """

    known: ImageSet
    unknown: ImageSet


class OodStudy(OnNetworks):
    """A study of detectors x sets x checkpoints."""

    study: Literal["ood"]
    detectors: Annotated[tuple[Detection, ...], Field(min_length=1)]
    validation: Validation | None = None

    @model_validator(mode="after")
    def _known_detectors(self) -> OodStudy:
        import sisom  # on use: reading other configs needs no torch

        for choice in self.detectors:
            build = partial(sisom.DETECTORS.get(choice.name, dict), **choice.options)
            check_choice("detectors", choice, sisom.DETECTORS, build=build, sweep=choice.swept())
            if choice.sweep == "published" and not choice.swept():
                raise ValueError(f"detectors: no sweep of {choice.name} was published")
        refuse_twice("detectors", (choice.label for choice in self.detectors))
        if self.validation is None and any(choice.sweep for choice in self.detectors):
            raise ValueError("detectors: a sweep needs validation, to choose by")
        return self
