"""Config that all studies of trained networks share."""

from __future__ import annotations

from pydantic import model_validator

from pipeline.config.sections import Uri
from pipeline.studies.sections import ImageSet, Study, Training, refuse_twice


class OnNetworks(Study):
    """A study of trained networks.

    `checkpoints` are safetensors files, or folders of them, such as an active-learning study's. A file `X.json` beside
    `X.safetensors` may list `labeled` ids; detectors are then fitted on these images alone. With `train` instead, one
    network is trained for each seed.
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
        """Return the unknown sets by group, without empty groups."""
        return {name: sets for name, sets in (("near", self.near), ("far", self.far)) if sets}
