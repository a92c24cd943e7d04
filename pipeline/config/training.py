"""Config sections of the training of a classifier, for package `learn`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.sections import Positive, Section, Share


class Augment(Section):
    """Random crops after padding by `pad` pixels, and random mirroring."""

    pad: Annotated[int, Field(ge=0, le=64)] = 4
    flip: bool = True


class Train(Section):
    """The training of a round's classifier."""

    start: Literal["fresh", "last"] = "fresh"
    epochs: Annotated[int, Field(ge=1)] = 200
    batch_size: Annotated[int, Field(ge=2)] = 128
    lr: Positive = 0.1
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0.0)] = 5e-4
    held_out: Annotated[float, Field(ge=0.0, le=0.5)] = 0.1
    augment: Augment = Augment()
    precision: Literal["fp32", "bf16"] = "fp32"
    num_workers: Annotated[int, Field(ge=1)] = 1
    checkpoint_every: Annotated[int, Field(ge=1)] = 10
    retries: Annotated[int, Field(ge=0)] = 2
