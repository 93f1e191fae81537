# SPDX-License-Identifier: Apache-2.0
"""Shuffled batches as a function of (seed, step), without any state to save.

Every random choice of a step is drawn from a generator made of the seed and the step alone. A run that is
interrupted and continued at step n therefore sees exactly the batches that it would have seen, and the checkpoint
has nothing to store but n.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

from bittern.data.augment import Augment


class Batch(NamedTuple):
    """Images [batch, channels, h, w], not normalized, and labels int64 [batch]."""

    images: Tensor
    labels: Tensor


def generator_for(seed: int, purpose: str, index: int) -> torch.Generator:
    """A CPU generator that depends on all three arguments and on nothing else."""
    # hashed, because torch's CPU generator reads only the low 32 bits of its seed, and neighbours must not correlate
    digest = hashlib.blake2b(f"{seed}/{purpose}/{index}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


class Order:
    """Which of `count` examples a step takes: a fresh permutation per epoch, its last `count % batch_size` left out.

    Raises: ValueError for a batch larger than the set, or an empty one.
    """

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        if not 1 <= batch_size <= count:
            raise ValueError(f"Batches: batch_size must lie in 1 ... {count}, the size of the set; got {batch_size}")
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    @property
    def steps_per_epoch(self) -> int:
        return self.count // self.batch_size

    def at(self, step: int) -> Tensor:
        """Indices int64 [batch_size] of a step, counted from 0 over all epochs. Raises: ValueError below 0."""
        if step < 0:
            raise ValueError(f"Batches: step must be at least 0; got {step}")
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = torch.randperm(self.count, generator=generator_for(self.seed, "order", epoch))
            self._epoch = epoch
        return self._order[place * self.batch_size : (place + 1) * self.batch_size]


class Batches:
    """All batches of a training run over `images` and `labels`: batch number `step` is `at(step)`.

    Each epoch visits a fresh permutation and leaves out its last `count % batch_size` examples, so every batch is
    full. `augment` is applied to whole batches.

    Raises: ValueError for tensors that do not fit together, an empty set, or a batch larger than the set.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, batch_size: int, *, seed: int, augment: Augment | None = None
    ) -> None:
        if images.shape[:1] != labels.shape or len(labels) == 0:
            raise ValueError(
                f"Batches: needs one label per image and at least one; got {list(images.shape)}, {list(labels.shape)}"
            )
        self.images = images
        self.labels = labels
        self.batch_size = batch_size
        self.seed = seed
        self.augment = augment
        self._order = Order(len(labels), batch_size, seed)

    @property
    def steps_per_epoch(self) -> int:
        return self._order.steps_per_epoch

    def at(self, step: int) -> Batch:
        """The batch of a step counted from 0 over all epochs. Raises: ValueError for a negative step."""
        chosen = self._order.at(step).to(self.labels.device)
        images = self.images[chosen]
        if self.augment is not None:
            images = self.augment(images, generator_for(self.seed, "augment", step))
        return Batch(images, self.labels[chosen])
