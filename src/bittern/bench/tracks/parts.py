# SPDX-License-Identifier: Apache-2.0
"""The examples of a problem: to train on, to choose learning rates on, and to judge by.

Learning rates and everything else that is chosen by looking at scores is chosen on `Parts.choice`, whose second part is
held out of the training set; the test set has no say.
"""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

from bittern.data.augment import normalize
from bittern.data.images import UINT8_MAX, ImageData
from bittern.train.source import TrainingData

HELD_OUT_SHARE = 0.1
"""Of the training examples, drawn first, so that it does not depend on how many of the others are trained on."""
SEED = 0
"""Of that draw, for all methods, seeds and recipes."""
PEEK = 500
"""Test examples that a training is watched on after each epoch."""
VERIFIED = 200
"""Test inputs on which packed model and training graph are compared accumulator by accumulator."""
SHOWN = 24
"""Test examples that a reader is shown."""


@dataclass(frozen=True, eq=False, slots=True)
class Parts:
    """Examples of a problem.

    final: (training, test), as `bittern.train` takes them. choice: the same training examples, with the held-out ones
    in the place of the test set. peek: the same with the first `PEEK` test examples.
    inputs: the first `VERIFIED` test inputs, as a model takes them, batch first.
    shown: the first `SHOWN` test examples for readers, each as text, or as "data:image/png;base64,...".
    """

    final: TrainingData
    choice: TrainingData
    peek: TrainingData
    inputs: Tensor
    shown: tuple[str, ...]


def split(count: int, train_size: int | None) -> tuple[Tensor, Tensor]:
    """Indices, in their order, of the training and the held-out examples among `count`.

    train_size: at most so many to train on, drawn once: a smaller choice is part of a larger one. None: all that are
    not held out.

    Raises: ValueError for fewer than two examples, or less than one to train on.
    """
    if count < 2 or (train_size is not None and train_size < 1):
        raise ValueError(
            f"split: needs at least 2 examples, one to train on and one to hold out, and train_size of at least 1; "
            f"got {count} examples and train_size {train_size}"
        )
    order = _order(count)
    held_out = max(1, round(HELD_OUT_SHARE * count))
    chosen = order[held_out:] if train_size is None else order[held_out : held_out + train_size]
    return chosen.sort().values, order[:held_out].sort().values


def _drawn(count: int, train_size: int | None) -> Tensor:
    """As `split`, where nothing has to be held out. Raises: ValueError."""
    if train_size is not None and train_size < 1:
        raise ValueError(f"split: train_size must be at least 1; got {train_size}")
    return _order(count)[:train_size].sort().values


def _order(count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(SEED))


def image_parts(data: ImageData, train_size: int | None) -> Parts:
    """Of a set of images. Raises: ValueError."""
    chosen, held_out = split(len(data.train_labels), train_size)
    final = dataclasses.replace(data, train_images=data.train_images[chosen], train_labels=data.train_labels[chosen])
    others, first = data.train_images[held_out], data.test_images[:PEEK]
    return Parts(
        final=final,
        choice=dataclasses.replace(final, test_images=others, test_labels=data.train_labels[held_out]),
        peek=dataclasses.replace(final, test_images=first, test_labels=data.test_labels[:PEEK]),
        inputs=normalize(data.test_images[:VERIFIED], data.mean, data.std),
        shown=tuple(png(image) for image in data.test_images[:SHOWN]),
    )


def tensor_parts(
    train: Sequence[Tensor],
    test: Sequence[Tensor],
    train_size: int | None,
    shown: Sequence[str] = (),
    *,
    held_out: Sequence[Tensor] | None = None,
) -> Parts:
    """Of examples as tensors of equal length: inputs as a model takes them, then what is to be learned.

    shown: what a reader sees of the test examples, from the first on; at most `SHOWN` are kept. held_out: examples to
    choose by, where the data set has a part for that; None: `split` draws them. Raises: ValueError.
    """
    others = None if held_out is None else TensorDataset(*held_out)
    inputs = test[0][:VERIFIED]
    return dataset_parts(TensorDataset(*train), TensorDataset(*test), train_size, inputs, shown, held_out=others)


def dataset_parts(
    train: Dataset[Any],
    test: Dataset[Any],
    train_size: int | None,
    inputs: Tensor,
    shown: Sequence[str] = (),
    *,
    held_out: Dataset[Any] | None = None,
) -> Parts:
    """Of examples that are read one by one. inputs: the first `VERIFIED` of the test set; else as `tensor_parts`.

    Raises: ValueError.
    """
    count, tested = (len(part) for part in (train, test))  # type: ignore[arg-type]
    if held_out is None:
        chosen, others = split(count, train_size)
        held_out = Subset(train, others.tolist())
    else:
        chosen = _drawn(count, train_size)
    learned = Subset(train, chosen.tolist())
    return Parts(
        final=(learned, test),
        choice=(learned, held_out),
        peek=(learned, Subset(test, range(min(PEEK, tested)))),
        inputs=inputs,
        shown=tuple(shown[:SHOWN]),
    )


def png(image: Tensor) -> str:
    """An image [channels, height, width], uint8 or float brightness in [0, 1], as text that a page can show.

    One channel is grey, three are red, green and blue. Raises: ValueError for another number of channels.
    """
    from PIL import Image

    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"png: needs an image [1 or 3 channels, height, width]; got {list(image.shape)}")
    pixels = image if image.dtype == torch.uint8 else (image.clamp(0.0, 1.0) * UINT8_MAX).round().to(torch.uint8)
    rows = pixels[0] if image.shape[0] == 1 else pixels.permute(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rows.numpy())).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
