# SPDX-License-Identifier: Apache-2.0
"""Examples that a function of the user's gives, as the tracks take them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from bittern._own_code import DIGITS
from bittern.bench.tracks.parts import SHOWN, VERIFIED, Parts, dataset_parts, image_parts, png
from bittern.data.folder import FolderData
from bittern.data.images import ImageData

NAMES = {2: ("training", "test"), 3: ("training", "held-out", "test")}
LOOKED_AT = 64
"""Examples of each part that the digest is made of, evenly spread."""
WORDS = 6
"""Numbers of an input that is no picture which readers are shown."""


@dataclass(frozen=True, eq=False, slots=True)
class Given:
    """What the function gave: parts without their loaders. batch_size: of the training loader, where there was one."""

    train: Dataset[Any]
    held_out: Dataset[Any] | None
    test: Dataset[Any]
    batch_size: int | None

    @property
    def parts(self) -> tuple[Dataset[Any], ...]:
        return (self.train, self.test) if self.held_out is None else (self.train, self.held_out, self.test)


def given(text: str, found: Any) -> Given | ImageData:
    """What the function `text` gave, checked. A loader stands for its dataset, and that of the training part says how
    large batches are: the benchmark draws the order itself, the same for all methods.

    Raises: TypeError, ValueError for anything else than the data of `bittern.train`, with or without a held-out part.
    """
    if isinstance(found, (ImageData, FolderData)):
        return found.in_memory()
    if not isinstance(found, (tuple, list)) or len(found) not in NAMES:
        raise TypeError(
            f"{text}: must return (training, test) or (training, held-out, test), each a Dataset or a DataLoader, or "
            f"ImageData or FolderData of bittern.data; got {type(found).__name__}"
        )
    sets = [_dataset(text, name, part) for name, part in zip(NAMES[len(found)], found, strict=True)]
    for name, one in zip(NAMES[len(found)], sets, strict=True):
        _check_example(text, name, one)
    first = found[0]
    return Given(
        sets[0],
        sets[1] if len(sets) == len(NAMES[3]) else None,
        sets[-1],
        first.batch_size if isinstance(first, DataLoader) else None,
    )


def parts_of(data: Given | ImageData, train_size: int | None) -> Parts:
    """Raises: ValueError for too few examples."""
    if isinstance(data, ImageData):
        return image_parts(data, train_size)
    inputs, _ = examples(data.test, range(min(VERIFIED, _count(data.test))))
    shown = tuple(_shown(x) for x in inputs[:SHOWN])
    return dataset_parts(data.train, data.test, train_size, inputs, shown, held_out=data.held_out)


def examples(dataset: Dataset[Any], indices: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(inputs, labels) as a batch."""
    inputs, labels = default_collate([dataset[i] for i in indices])
    return inputs, labels


def digest_of(data: Given | ImageData) -> str:
    """Of the number of examples, some labels of each part and some test inputs: data that are drawn anew each time, or
    files that were exchanged, have another one. Training inputs are left out, since a dataset may augment them."""
    whole = hashlib.sha256()
    if isinstance(data, ImageData):
        tensors = [data.train_labels, data.test_labels, data.test_images[:LOOKED_AT]]
    else:
        tensors = [torch.tensor([_count(part) for part in data.parts])]
        with torch.random.fork_rng([]):
            for part in data.parts:
                inputs, labels = examples(part, _spread(_count(part)))
                tensors += [labels, inputs] if part is data.test else [labels]
    for tensor in tensors:
        whole.update(f"{list(tensor.shape)} {tensor.dtype}\n".encode())
        whole.update(tensor.contiguous().cpu().view(-1).view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()[:DIGITS]


def _dataset(text: str, name: str, part: Any) -> Dataset[Any]:
    """The dataset of a loader that does nothing of its own."""
    one = part.dataset if isinstance(part, DataLoader) else part
    if isinstance(one, IterableDataset) or not hasattr(one, "__getitem__") or not hasattr(one, "__len__"):
        raise TypeError(
            f"{text}: the {name} part must be a Dataset with a length, or a DataLoader of one; got {type(one).__name__}"
        )
    if isinstance(part, DataLoader):
        plain_order = type(part.sampler) in (RandomSampler, SequentialSampler)
        if part.collate_fn is not default_collate or not plain_order or type(part.batch_sampler) is not BatchSampler:
            raise ValueError(
                f"{text}: the {name} loader has a collate_fn, a sampler or batches of its own, and the benchmark draws "
                "the order and makes the batches itself; return the dataset, with what collate_fn does in it"
            )
    if _count(one) == 0:
        raise ValueError(f"{text}: the {name} part is empty")
    return one


def _check_example(text: str, name: str, dataset: Dataset[Any]) -> None:
    """Raises: TypeError for what is no classification."""
    with torch.random.fork_rng([]):
        item = dataset[0]
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise TypeError(f"{text}: an example of the {name} part must be (input, class number); got {_kind(item)}")
    try:
        inputs, labels = default_collate([item])
    except (TypeError, RuntimeError) as error:
        raise TypeError(
            f"{text}: an example of the {name} part must be (tensor, class number); got {_kind(item)}: {error}"
        ) from error
    if not isinstance(inputs, Tensor) or not isinstance(labels, Tensor):
        raise TypeError(f"{text}: an example of the {name} part must be (tensor, class number); got {_kind(item)}")
    if labels.is_floating_point() or labels.dtype == torch.bool or labels.shape != (1,):
        raise TypeError(
            f"{text}: a label of the {name} part must be a whole number, its class; got {labels.dtype} "
            f"{list(labels.shape[1:])}; other tasks are problems of your own, see docs/bench_tracks.md"
        )


def _kind(item: Any) -> str:
    if isinstance(item, (tuple, list)):
        return f"({', '.join(type(part).__name__ for part in item)})"
    return type(item).__name__


def _count(dataset: Dataset[Any]) -> int:
    return len(dataset)  # type: ignore[arg-type]


def _spread(count: int) -> list[int]:
    return sorted({round(i * (count - 1) / (LOOKED_AT - 1)) for i in range(LOOKED_AT)})


def _shown(x: Tensor) -> str:
    """A picture where it looks like one, its brightness stretched; else its shape and first numbers."""
    if x.ndim == 3 and x.shape[0] in (1, 3) and min(x.shape[1:]) > 1:
        values = x.double()
        low, high = values.min(), values.max()
        return png((values - low) / (high - low if high > low else 1.0))
    numbers = ", ".join(f"{value:.3g}" for value in x.flatten()[:WORDS].tolist())
    return f"{list(x.shape)}: {numbers}{', ...' if x.numel() > WORDS else ''}"
