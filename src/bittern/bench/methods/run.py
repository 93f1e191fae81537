# SPDX-License-Identifier: Apache-2.0
"""`bittern bench methods`: every method and its float twin, one network, one data set, one table.

The recipe is one for all, or that of each method's paper, scaled to the same epochs (`bittern.recipes`).

Each training starts from the same seed and sees the same batches. A trained model is packed, checked against its
training graph on real test images, and its accuracy is that of the packed model on the whole test set. Every finished
training is written at once, so a run that is killed and started again with the same arguments loses at most one.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from bittern import binary
from bittern.bench.core.machine import this_machine
from bittern.bench.core.runner import Trial, run_trials
from bittern.bench.core.timing import torch_threads
from bittern.bench.core.training import fit, fresh, pack_exactly
from bittern.bench.methods.report import TWIN, VERIFIED, MethodsReport, Setting, Trained, paper_setting
from bittern.data import ImageData, RandomCropFlip, normalize
from bittern.models import resnet20_cifar
from bittern.nn.summary import summary
from bittern.quantizer import Method
from bittern.recipes import PaperRecipe
from bittern.train import Cosine, Recipe, evaluate

EPOCHS = 3
TRAIN_SIZE = 5_000
"""With `EPOCHS`, what thirty trainings on 28 x 28 pixels can do in about an hour on one core."""
BATCH_SIZE = 50
LEARNING_RATE = 3e-2
WARMUP = 0.1
CROP_PADDING = 2
SUBSET_SEED = 0
PEEK = 500
"""Test images that the loop looks at after each epoch, for its log only; the whole test set comes at the end."""
Methods = Sequence[Method | None]
RecordOf = Callable[[Method], PaperRecipe]
"""`bittern.recipes.for_method`."""
Network = Callable[..., nn.Module]
"""One of `bittern.models.ALL`."""
ALL: tuple[Method | None, ...] = (None, *binary.COMPARED)
"""The float twin (None) first: the gaps refer to it."""


def run(
    data: ImageData,
    *,
    out: Path,
    command: str,
    epochs: int = EPOCHS,
    train_size: int = TRAIN_SIZE,
    seeds: Sequence[int] = (0, 1, 2),
    threads: int = 2,
    device: torch.device | None = None,
    augment: bool = False,
    record_of: RecordOf | None = None,
    batch_size: int | None = None,
    methods: Methods = ALL,
    network: Network = resnet20_cifar,
    name: str = "methods",
    progress: bool = True,
    on_run: Callable[[Trained], None] | None = None,
) -> MethodsReport:
    """Train, pack and verify a network with each of `methods` for each of `seeds` on `data`.

    out: folder that gets <name>_<data set>.json and .md after every training; trainings that the JSON file already
    holds are not repeated. command: what the reader may type to repeat it. train_size: so many training images, drawn
    once and for all seeds; at most all. device: of the trainings; None: the CPU. augment: shift and mirror the
    training images, for long runs. record_of: gives each method's own recipe, which says itself whether images are
    shifted, and is followed without teachers; the float twin keeps the common one. None: the common one for all.
    batch_size: the most images of a batch of those recipes, for few images make few batches of hundreds; None: the
    authors'. network: what is trained.

    Raises: ValueError for a size or number that does not fit, or when the JSON file holds another setting or another
    machine; StoreError when it is damaged; OSError; DivergedError.
    """
    place = torch.device("cpu") if device is None else device
    base = Path(out) / f"{name}_{data.name}"
    _check(data, train_size, seeds, methods)
    _check_recipe(record_of, augment, batch_size)
    subset = _subset(data, train_size)
    with torch_threads(threads):
        records = {} if record_of is None else _records(record_of, methods, epochs, batch_size, subset)
        setting = _setting(data, subset, network, command, epochs, tuple(seeds), augment)
        if records:
            setting = dataclasses.replace(setting, recipe=paper_setting(setting.recipe, records))
        fresh = MethodsReport(setting, this_machine(place), ())

        def train_named(method: Method | None, seed: int) -> Trained:
            record = records.get(_name(method))
            stages = (_recipe(epochs, seed, augment),) if record is None else _stages(record, seed, data)
            return train_one(subset, method, network, stages, place, progress)

        trials = [Trial((_name(m), seed), partial(train_named, m, seed)) for seed in seeds for m in methods]
        return run_trials("bench methods", base.with_suffix(".json"), fresh, trials, _key, on_run=on_run)


def _key(run: Trained) -> tuple[str, int]:
    return run.method, run.seed


def train_one(
    data: ImageData,
    method: Method | None,
    network: Network,
    stages: tuple[Recipe, ...],
    device: torch.device,
    progress: bool,
) -> Trained:
    """One training, of one or two stages, from their seed on; packed and verified."""
    seed = stages[0].seed
    model = fresh(partial(_build, data, method, network), seed, device)
    peek = dataclasses.replace(data, test_images=data.test_images[:PEEK], test_labels=data.test_labels[:PEEK])
    started = time.perf_counter()
    epochs = fit(model, peek, stages, progress=progress)
    seconds = time.perf_counter() - started
    model = model.cpu()
    images = normalize(data.test_images[:VERIFIED], data.mean, data.std)
    if method is None:
        accuracy, exact, size = evaluate(model, data).accuracy, None, summary(model, images).bytes
    else:
        packed, verified, file = pack_exactly(model, images)
        accuracy, exact, size = evaluate(packed, data).accuracy, verified.exact, len(file)
    return Trained(_name(method), seed, epochs[-1].train_accuracy, accuracy, exact, size, round(seconds, 1))


def _build(data: ImageData, method: Method | None, network: Network) -> nn.Module:
    """The network of this benchmark for images of `data`."""
    channels, height, _ = data.image_shape
    return network(method, len(data.classes), channels, input_size=height)


def _records(
    record_of: RecordOf, methods: Methods, epochs: int, batch_size: int | None, data: ImageData
) -> dict[str, PaperRecipe]:
    """The papers' recipes in so many epochs, without a teacher, and with batches that these images can fill."""
    most = len(data.train_labels) if batch_size is None else min(batch_size, len(data.train_labels))
    found = {}
    for method in methods:
        if method is not None:
            record = record_of(method)
            scaled = record.scaled(epochs=epochs, batch_size=min(record.batch_size, most))
            found[_name(method)] = scaled.without_teacher()
    return found


def _stages(record: PaperRecipe, seed: int, data: ImageData) -> tuple[Recipe, ...]:
    return record.stages(seed=seed, augment=record.augment_for(data))


def _check_recipe(record_of: RecordOf | None, augment: bool, batch_size: int | None) -> None:
    if augment and record_of is not None:
        raise ValueError(
            "bench methods: augment=True is for the common recipe; the papers' recipes say themselves what is shifted; "
            "leave it out"
        )
    if batch_size is not None and record_of is None:
        raise ValueError(
            f"bench methods: batch_size is for the papers' recipes; the common one has {BATCH_SIZE}; got {batch_size}; "
            "leave it out"
        )


def _recipe(epochs: int, seed: int, augment: bool) -> Recipe:
    return Recipe(
        epochs=epochs,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        schedule=Cosine(warmup=WARMUP),
        augment=RandomCropFlip(padding=CROP_PADDING) if augment else None,
        seed=seed,
    )


def _setting(
    data: ImageData,
    subset: ImageData,
    network: Network,
    command: str,
    epochs: int,
    seeds: tuple[int, ...],
    augment: bool,
) -> Setting:
    fields = _recipe(epochs, 0, augment).identity()
    return Setting(
        command=command,
        dataset=data.name,
        image_shape=data.image_shape,
        train_size=len(subset.train_labels),
        train_available=len(data.train_labels),
        test_size=len(data.test_labels),
        model=network.__name__,
        epochs=epochs,
        seeds=seeds,
        batch_size=BATCH_SIZE,
        recipe=tuple((key, str(value)) for key, value in fields.items() if key not in ("seed", "epochs")),
    )


def _check(data: ImageData, train_size: int, seeds: Sequence[int], methods: Methods) -> None:
    available = len(data.train_labels)
    if not BATCH_SIZE <= train_size <= available:
        raise ValueError(
            f"bench methods: train_size must lie in {BATCH_SIZE} (one batch) ... {available} (all of {data.name}); "
            f"got {train_size}"
        )
    for what, values in (("seeds", list(seeds)), ("methods", [_name(m) for m in methods])):
        if not values or len(set(values)) != len(values):
            raise ValueError(f"bench methods: {what} must be different from each other, at least one; got {values}")
    _, height, width = data.image_shape
    if height != width:
        raise ValueError(f"bench methods: needs square images; got {height} x {width} in {data.name}")


def _subset(data: ImageData, train_size: int) -> ImageData:
    """The same random choice of training images every time, in the order of the set."""
    generator = torch.Generator().manual_seed(SUBSET_SEED)
    chosen = torch.randperm(len(data.train_labels), generator=generator)[:train_size].sort().values
    return dataclasses.replace(data, train_images=data.train_images[chosen], train_labels=data.train_labels[chosen])


def _name(method: Method | None) -> str:
    """The class's name; of a partial with its options, for they make another method."""
    if method is None:
        return TWIN
    if isinstance(method, partial):
        options = ", ".join(f"{name}={value}" for name, value in sorted(method.keywords.items()))
        return f"{_name(method.func)}({options})"
    return str(getattr(method, "__name__", type(method).__name__))
