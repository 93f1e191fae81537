# SPDX-License-Identifier: Apache-2.0
"""What a record of `bittern.recipes` holds, and how it becomes a `Recipe`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bittern.data.augment import RandomCropFlip
from bittern.data.folder import FolderData
from bittern.data.images import ImageData
from bittern.quantizer import Quantizer
from bittern.recipes.published import Published
from bittern.train.added.added_loss import AddedLoss
from bittern.train.loss import CrossEntropy, Distillation, Loss
from bittern.train.recipe import OptimizerFactory, Recipe
from bittern.train.schedule import Constant, Cosine, Exponential, Linear, Steps

CROP_PADDING = {8: 1, 28: 2, 32: 4}
"""Pixels by which images of each size are shifted: the usual 4 for CIFAR, less for smaller ones."""
NOT_MIRRORED = ("digits", "mnist")
"""A mirrored digit is no digit."""


class Decay(NamedTuple):
    """Weight decays."""

    real: float = 0.0
    """Of real weights."""
    latent: float = 0.0
    """Of latent weights."""
    elementwise: float = 0.0
    """Of norms, biases, scales, thresholds and slopes."""

    def __str__(self) -> str:
        if len(set(self)) == 1:
            return f"{self.real:g} of every parameter" if self.real else "none"
        kinds = (("real weights", self.real), ("latent weights", self.latent), ("all others", self.elementwise))
        return ", ".join(f"{value:g} of {kind}" for kind, value in kinds if value)


NO_DECAY = Decay()


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperRecipe:
    """One method's training as its authors do it.

    method: the class. task: data set and network of the authors. source: arXiv id, and the file that was read.
    epochs, batch_size, optimizer, learning_rate, schedule, loss, losses, distillation, glorot_rates: as in `Recipe`.
    decay: of the only stage, or of the second; first_decay: of a first stage with real weights; None: there is none.
    first_rate: learning rate of the first of two stages, where it is another.
    augmentation: the authors', in words. crop_and_flip: whether `recipe` shifts and mirrors images in its place.
    start: latent weights at the start, in words. differences: one sentence for each.
    paper_epochs, paper_batch_size: the authors', of a record that was scaled; 0: this one's are the authors'.
    labels_only: set by `without_teacher`. published: test accuracies of the method, and where they were read; those of
    the authors first. Empty where none was read. called: the name of a way to train; "": that of the method.
    """

    method: type[Quantizer]
    task: str
    source: str
    epochs: int
    batch_size: int
    optimizer: OptimizerFactory
    learning_rate: float
    schedule: Constant | Cosine | Exponential | Linear | Steps
    decay: Decay = NO_DECAY
    first_decay: Decay | None = None
    first_rate: float | None = None
    loss: Loss = field(default_factory=CrossEntropy)
    losses: tuple[AddedLoss, ...] = ()
    distillation: Distillation | None = None
    glorot_rates: bool = False
    augmentation: str
    crop_and_flip: bool
    start: str
    differences: tuple[str, ...]
    paper_epochs: int = 0
    paper_batch_size: int = 0
    labels_only: bool = False
    published: tuple[Published, ...] = ()
    called: str = ""

    def scaled(self, *, epochs: int, batch_size: int | None = None) -> PaperRecipe:
        """The same in fewer (or more) epochs: milestones, warm-up and schedules keep their share of all steps.

        epochs: of each stage. batch_size: None leaves it; the learning rate is left in any case. `str(record)`, the
        recipe's `origin` and everything that is made of them say what was changed.

        Raises: ValueError for numbers below 1.
        """
        size = self.batch_size if batch_size is None else batch_size
        if epochs < 1 or size < 1:
            raise ValueError(f"{self.name}: epochs and batch_size must be at least 1; got {epochs} and {size}")
        return dataclasses.replace(
            self,
            epochs=epochs,
            batch_size=size,
            paper_epochs=self.paper_epochs or self.epochs,
            paper_batch_size=self.paper_batch_size or self.batch_size,
        )

    def without_teacher(self) -> PaperRecipe:
        """The same on labels alone, where the authors have a teacher; unchanged where they have none."""
        if self.distillation is None:
            return self
        return dataclasses.replace(self, distillation=None, labels_only=True)

    def augment_for(self, images: ImageData) -> RandomCropFlip | None:
        """What `recipe(augment=...)` takes for these images, in the place of the authors' augmentation."""
        return crop_and_flip_for(images) if self.crop_and_flip else None

    def recipe(self, **changes: Any) -> Recipe:
        """What `bittern.train.train` takes. changes: fields of `Recipe`, e.g. seed=1 or augment=None.

        Raises: ValueError for a recipe of two stages.
        """
        if self.first_decay is not None:
            raise ValueError(
                f"{self.name}: trains in two stages: train_two_stage(model, data, *record.stages()), or "
                "record.stages()[-1] for the second alone"
            )
        return self.stages(**changes)[0]

    def stages(self, **changes: Any) -> tuple[Recipe, ...]:
        """One recipe, or the two that `bittern.train.train_two_stage` takes. changes: fields of `Recipe`, of both."""
        decays = (self.decay,) if self.first_decay is None else (self.first_decay, self.decay)
        found = [self._stage(decay) for decay in decays]
        if self.first_rate is not None:
            found[0] = dataclasses.replace(found[0], learning_rate=self.first_rate)
        return tuple(dataclasses.replace(stage, **changes) for stage in found)

    @property
    def name(self) -> str:
        return self.called or self.method.__name__

    def __str__(self) -> str:
        """Where it comes from and how far it follows it, in one line."""
        parts = [f"{self.name} ({self.task})"]
        of_each = " of each stage" if self.first_decay is not None else ""
        if self.paper_epochs in (0, self.epochs):
            parts.append(f"all {self.epochs} epochs{of_each}")
        else:
            parts.append(f"epochs {self.epochs} of {self.paper_epochs}{of_each}, schedule and warm-up scaled")
        if self.paper_batch_size not in (0, self.batch_size):
            parts.append(f"batches of {self.batch_size} instead of {self.paper_batch_size}")
        if self.labels_only:
            parts.append("labels in place of a teacher")
        return ", ".join(parts)

    def _stage(self, decay: Decay) -> Recipe:
        return Recipe(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            optimizer=self.optimizer,
            schedule=self.schedule,
            weight_decay=decay.real,
            latent_weight_decay=decay.latent,
            elementwise_weight_decay=decay.elementwise,
            glorot_rates=self.glorot_rates,
            loss=self.loss,
            losses=self.losses,
            augment=RandomCropFlip() if self.crop_and_flip else None,
            distillation=self.distillation,
            origin=str(self),
        )


def crop_and_flip_for(images: ImageData | FolderData) -> RandomCropFlip:
    """The usual shifting and mirroring of images of this size and kind."""
    side = images.image_shape[1]
    return RandomCropFlip(padding=CROP_PADDING.get(side, max(1, side // 8)), flip=images.name not in NOT_MIRRORED)
