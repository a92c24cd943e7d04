"""What studies of trained networks are told."""

from __future__ import annotations

from pydantic import model_validator

from pipeline.config.sections import Uri
from pipeline.studies.sections import ImageSet, Study, Training, refuse_twice


class OnNetworks(Study):
    """Studies that look at trained networks: given ones, or one trained for each seed.

    `checkpoints` are safetensors files, or folders of them, such as an active-learning study's. A file `X.json` beside
    `X.safetensors` that names `labeled` ids restricts the images that detectors are fitted on to these.
    """

    checkpoints: tuple[Uri, ...] = ()
    train: Training | None = None
    fit: ImageSet
    known: ImageSet
    near: tuple[ImageSet, ...] = ()
    far: tuple[ImageSet, ...] = ()

    @model_validator(mode="after")
    def _networks(self) -> OnNetworks:
        if (self.train is None) == (not self.checkpoints):
            raise ValueError("give either checkpoints or train")
        if not self.near and not self.far:
            raise ValueError("near, far: needs at least one set of unknown images")
        refuse_twice("near, far", (each.name for each in (*self.near, *self.far)))
        return self

    def groups(self) -> dict[str, tuple[ImageSet, ...]]:
        """The unknown sets by group, those without any left out."""
        return {name: sets for name, sets in (("near", self.near), ("far", self.far)) if sets}
