# SPDX-License-Identifier: Apache-2.0
"""Where a run gets its batches: images in memory, folders of classes, datasets and loaders of torch."""

from __future__ import annotations

import dataclasses
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from bittern.data.augment import normalize
from bittern.data.batches import Batch as Labelled
from bittern.data.batches import Batches, Order, generator_for
from bittern.data.folder import FolderData
from bittern.data.images import ImageData
from bittern.train.recipe import Recipe
from bittern.train.tasks.task import Batch, Task, as_batch

Part = Dataset[Any] | DataLoader[Any]
TrainingData = ImageData | FolderData | tuple[Part, Part]
"""Images in memory or in folders, or (train, test), each a dataset or a loader of what the task takes."""
BATCH, LAZY_BATCH = 500, 100
"""Inputs per call of a test, in memory and not. In eval mode a result does not depend on its neighbours."""


class Source(ABC):
    """Batches of inputs as the model takes them, on its device.

    name: of the data. steps_per_epoch: batches of an epoch. any_step: `at` may be asked for any step, so that a run
    may go on from the middle of an epoch.
    """

    name: str
    steps_per_epoch: int
    any_step = True

    @abstractmethod
    def at(self, step: int) -> Batch:
        """The batch of a step counted from 0 over all epochs. Raises: ValueError, TypeError."""

    @abstractmethod
    def describe(self) -> str:
        """What a resumed run must find equal."""


def open_source(data: TrainingData, recipe: Recipe, device: torch.device, task: Task) -> Source:
    """Raises: ValueError, TypeError."""
    if isinstance(data, ImageData):
        return _InMemory(data, recipe)
    if isinstance(data, FolderData):
        return _InFolder(data, recipe, device)
    check_pair(data)
    if recipe.augment is not None:
        raise ValueError("train: recipe.augment is for images of bittern.data; augment in the dataset instead")
    train = data[0]
    read = Reader(task, device)
    return _Loader(train, recipe, read) if isinstance(train, DataLoader) else _Mapped(train, recipe, read)


def test_batches(data: TrainingData, device: torch.device, task: Task) -> Iterator[Batch]:
    """The test part in its order. Raises: ValueError, TypeError."""
    if isinstance(data, ImageData):
        parts = torch.split(data.test_images, BATCH), torch.split(data.test_labels, BATCH)
        for images, labels in zip(*parts, strict=True):
            yield Labelled(normalize(images, data.mean, data.std), labels)
    elif isinstance(data, FolderData):
        for start in range(0, len(data.test), LAZY_BATCH):
            chosen = slice(start, start + LAZY_BATCH)
            images = data.read(data.test.files[chosen]).to(device)
            labels = torch.tensor(data.test.labels[chosen], device=device)
            yield Labelled(normalize(images, data.mean, data.std), labels)
    elif isinstance(data[1], DataLoader):
        for item in data[1]:
            yield Reader(task, device).batch(item, "the test loader")
    else:
        part = data[1]
        for start in range(0, len(part), LAZY_BATCH):  # type: ignore[arg-type]
            indices = range(start, min(start + LAZY_BATCH, len(part)))  # type: ignore[arg-type]
            yield Reader(task, device).examples(part, indices, "the test dataset")


def classes_of(data: TrainingData) -> int | None:
    """How many classes there are, where the data say so."""
    return len(data.classes) if isinstance(data, (ImageData, FolderData)) else None


def name_of(data: TrainingData) -> str:
    if isinstance(data, (ImageData, FolderData)):
        return data.name
    return " and ".join(type(part.dataset if isinstance(part, DataLoader) else part).__name__ for part in data)


def check_pair(data: Any) -> None:
    """Raises: TypeError, ValueError for what is no (train, test) of datasets or loaders with a length."""
    wanted = "ImageData, FolderData, or (train, test), each a Dataset or a DataLoader"
    if not isinstance(data, tuple) or len(data) != 2:
        raise TypeError(f"train: data must be {wanted}; got {type(data).__name__}")
    for name, part in zip(("training", "test"), data, strict=True):
        loader = isinstance(part, DataLoader)
        if not loader and not hasattr(part, "__getitem__"):
            raise TypeError(f"train: data must be {wanted}; the {name} part is {type(part).__name__}")
        if isinstance(part, IterableDataset):
            raise TypeError(f"train: the {name} part has no order to choose from; put it into a DataLoader")
        try:
            count = len(part)
        except TypeError as error:
            raise ValueError(f"train: the {name} part, {type(part).__name__}, must have a length ({error})") from error
        if count == 0:
            raise ValueError(f"train: the {name} part, {type(part).__name__}, is empty")


class Reader:
    """Brings what datasets and loaders give to the device, as a task wants it."""

    def __init__(self, task: Task, device: torch.device) -> None:
        self._task, self._device = task, device

    def batch(self, item: Any, subject: str) -> Batch:
        """A batch of a loader. Raises: TypeError, ValueError."""
        return self._task.check(as_batch(item, subject, self._device, self._task.items), subject)

    def examples(self, dataset: Any, indices: Any, subject: str) -> Batch:
        """Examples of a dataset, as one batch. Raises: TypeError, ValueError."""
        try:
            item = default_collate([dataset[i] for i in indices])
        except (TypeError, RuntimeError) as error:
            wanted = self._task.items
            raise TypeError(f"train: items of {subject} must be {wanted}, all of one shape: {error}") from error
        return self.batch(item, subject)


class _InMemory(Source):
    def __init__(self, data: ImageData, recipe: Recipe) -> None:
        self.name = data.name
        self._data = data
        self._batches = Batches(
            data.train_images, data.train_labels, recipe.batch_size, seed=recipe.seed, augment=recipe.augment
        )
        self.steps_per_epoch = self._batches.steps_per_epoch

    def at(self, step: int) -> Batch:
        batch = self._batches.at(step)
        return Labelled(normalize(batch.images, self._data.mean, self._data.std), batch.labels)

    def describe(self) -> str:
        images, labels = self._data.train_images, self._data.train_labels.cpu().contiguous()
        crc = zlib.crc32(labels.numpy().data)
        return f"{self.name} {list(images.shape)} {images.dtype}, labels {crc:08x}"


class _InFolder(Source):
    def __init__(self, data: FolderData, recipe: Recipe, device: torch.device) -> None:
        self.name = data.name
        self._data, self._recipe, self._device = data, recipe, device
        self._order = Order(len(data.train), recipe.batch_size, recipe.seed)
        self.steps_per_epoch = self._order.steps_per_epoch

    def at(self, step: int) -> Batch:
        train, recipe = self._data.train, self._recipe
        chosen = self._order.at(step).tolist()
        images = self._data.read([train.files[i] for i in chosen]).to(self._device)
        if recipe.augment is not None:
            images = recipe.augment(images, generator_for(recipe.seed, "augment", step))
        labels = torch.tensor([train.labels[i] for i in chosen], device=self._device)
        return Labelled(normalize(images, self._data.mean, self._data.std), labels)

    def describe(self) -> str:
        return self._data.describe()


class _Mapped(Source):
    """A dataset, in our order."""

    def __init__(self, dataset: Dataset[Any], recipe: Recipe, read: Reader) -> None:
        self.name = type(dataset).__name__
        self._dataset, self._reader = dataset, read
        self._count = len(dataset)  # type: ignore[arg-type]
        self._order = Order(self._count, recipe.batch_size, recipe.seed)
        self.steps_per_epoch = self._order.steps_per_epoch

    def at(self, step: int) -> Batch:
        return self._reader.examples(self._dataset, self._order.at(step).tolist(), "the training dataset")

    def describe(self) -> str:
        return f"{self.name} of {self._count}"


class _Loader(Source):
    """A loader of the caller's, whose order is its own: one pass per epoch, from its beginning."""

    any_step = False

    def __init__(self, loader: DataLoader[Any], recipe: Recipe, read: Reader) -> None:
        self.name = type(loader.dataset).__name__
        if loader.batch_size is not None and loader.batch_size != recipe.batch_size:
            raise ValueError(
                f"train: the loader gives batches of {loader.batch_size} and recipe.batch_size is {recipe.batch_size}; "
                "make them equal"
            )
        self._loader, self._reader = loader, read
        self.steps_per_epoch = len(loader)
        self._next = 0
        self._batches: Iterator[Any] = iter(())

    def at(self, step: int) -> Batch:
        if step % self.steps_per_epoch == 0:
            self._batches = iter(self._loader)
        elif step != self._next:
            raise ValueError(f"train: a loader must be read in its order; got step {step} instead of {self._next}")
        try:
            item = next(self._batches)
        except StopIteration as error:
            raise ValueError(
                f"train: the loader has {self.steps_per_epoch} batches by its length and ended before; mend its length"
            ) from error
        self._next = step + 1
        return self._reader.batch(item, "the training loader")

    def describe(self) -> str:
        return f"loader of {self.name}, {self.steps_per_epoch} batches"


def on_device(data: TrainingData, device: torch.device) -> TrainingData:
    """Images in memory where the model is; all others travel batch by batch."""
    if not isinstance(data, ImageData):
        return data
    names = ("train_images", "train_labels", "test_images", "test_labels")
    return dataclasses.replace(data, **{name: getattr(data, name).to(device) for name in names})
