"""Config sections of the training of a classifier, for package `learn`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.sections import Name, Positive, Section, Share

Alpha = Annotated[float, Field(gt=0.0, le=100.0)]  # of a Beta(alpha, alpha)
Strength = Annotated[float, Field(ge=0.0, le=1.0)]
MAX_ADAMW_LR = 0.05


class Crops(Section):
    """Random crops after padding by `pad` pixels, and random mirroring."""

    pad: Annotated[int, Field(ge=0, le=64)] = 4
    flip: bool = True


class RandomResizedCrop(Section):
    """A random part of the image, enlarged to its size.

    `scale` is the range of the part's area, `ratio` that of its width over its height.
    """

    scale: tuple[Share, Share] = (0.08, 1.0)
    ratio: tuple[Positive, Positive] = (0.75, 4 / 3)

    @field_validator("scale", "ratio")
    @classmethod
    def _range(cls, ends: tuple[float, float]) -> tuple[float, float]:
        if not 0 < ends[0] <= ends[1]:
            raise ValueError(f"write the smaller end first, above 0: got {ends[0]:g} and {ends[1]:g}")
        return ends


class ColorJitter(Section):
    """Random changes of color, made to an image with `probability`."""

    brightness: Strength = 0.4
    contrast: Strength = 0.4
    saturation: Strength = 0.4
    hue: Annotated[float, Field(ge=0.0, le=0.5)] = 0.1
    probability: Share = 0.8


class RandAugment(Section):
    """RandAugment: `operations` random ones for each image, of one magnitude."""

    operations: Annotated[int, Field(ge=1, le=14)] = 2
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9


class Augment(Crops):
    """Random changes of training images, in the order of the keys.

    `pad` and `flip` come first. The others are torchvision's; `{}` takes one with its defaults. `mixup` and `cutmix`
    are the alpha of a Beta(alpha, alpha), from which the share of the partner is drawn for each batch; with both, each
    batch has one of them by chance.
    """

    random_resized_crop: RandomResizedCrop | None = None
    color_jitter: ColorJitter | None = None
    rand_augment: RandAugment | None = None
    trivial_augment: bool = False
    mixup: Alpha | None = None
    cutmix: Alpha | None = None

    @model_validator(mode="after")
    def _one_policy(self) -> Augment:
        if self.trivial_augment and self.rand_augment is not None:
            raise ValueError("choose rand_augment or trivial_augment: each is a policy of its own")
        return self


class Train(Section):
    """The training of a round's classifier.

    optimizer        SGD with Nesterov momentum, or AdamW, of which `momentum` is beta1
    layer_decay      factor of the learning rate from each block to the one below it; the head has `lr` itself
    frozen_epochs    first epochs, in which the head alone is trained
    accumulate       batches of one step; a step sees `accumulate * batch_size` images
    label_smoothing  share of each target that is spread over all classes
    class_weights    factors of the loss by class; `balanced` gives all classes the same weight in sum
    loss             cross-entropy, or that of logits at a fixed length (LogitNorm, tau 0.04)
    average          decay of an exponential average of the weights, which is judged and kept in place of them
    patience         epochs without a better held-out result after which training stops
    """

    start: Literal["fresh", "last"] = "fresh"
    epochs: Annotated[int, Field(ge=1)] = 200
    batch_size: Annotated[int, Field(ge=2)] = 128
    accumulate: Annotated[int, Field(ge=1, le=1024)] = 1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.1
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0.0)] = 5e-4
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    frozen_epochs: Annotated[int, Field(ge=0)] = 0
    held_out: Annotated[float, Field(ge=0.0, le=0.5)] = 0.1
    augment: Augment = Augment()
    loss: Literal["cross-entropy", "logit-norm"] = "cross-entropy"
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    class_weights: Literal["none", "balanced"] | dict[Name, Positive] = "none"
    average: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    patience: Annotated[int, Field(ge=1)] | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    num_workers: Annotated[int, Field(ge=1)] = 1
    checkpoint_every: Annotated[int, Field(ge=1)] = 10
    retries: Annotated[int, Field(ge=0)] = 2

    @model_validator(mode="after")
    def _sensible(self) -> Train:
        if self.optimizer == "adamw" and self.lr > MAX_ADAMW_LR:
            raise ValueError(
                f"lr: {self.lr:g} is a rate for sgd; adamw moves each weight by about lr a step, so set it to "
                f"{MAX_ADAMW_LR:g} or less, such as 0.001"
            )
        if self.optimizer == "adamw" and self.momentum == 1.0:
            raise ValueError("momentum: adamw needs one below 1")
        if self.frozen_epochs >= self.epochs:
            raise ValueError(f"frozen_epochs ({self.frozen_epochs}) must be below epochs ({self.epochs})")
        if self.patience is not None and self.held_out == 0:
            raise ValueError("patience: needs held_out above 0, the rows that say when to stop")
        return self

    def unknown_classes(self, taxonomy: tuple[str, ...]) -> list[str]:
        """Return the names in `class_weights` that are no classes."""
        named = self.class_weights if isinstance(self.class_weights, dict) else {}
        return [name for name in named if name not in taxonomy]
