# SPDX-License-Identifier: Apache-2.0
"""Choose the learning rate of `bittern bench methods` on training images that no training of the benchmark tests on.

    python tools/choose_rate.py ../shared/data/fashion_mnist

Trains the float twin, BNN and ReCU, two seeds each, on 5,000 training images, scores them on 5,000 other training
images, and prints a table in Markdown. Test images are not looked at. Takes about half an hour on one core.
"""

from __future__ import annotations

import dataclasses
import sys
from statistics import fmean

import torch

from bittern.bench.methods.run import BATCH_SIZE, SUBSET_SEED, TRAIN_SIZE, WARMUP
from bittern.binary import BNN, ReCU
from bittern.data import ImageData, fashion_mnist
from bittern.models import resnet20_cifar
from bittern.train import Cosine, Recipe, train

RATES = (3e-3, 1e-2, 3e-2, 1e-1)
SEEDS = (10, 11)
"""None of those that the benchmark trains with."""
EPOCHS = 2
METHODS = (None, BNN, ReCU)


def held_out(data: ImageData) -> ImageData:
    """The images that the benchmark trains on, tested on as many other training images."""
    order = torch.randperm(len(data.train_labels), generator=torch.Generator().manual_seed(SUBSET_SEED))
    train_part, test_part = order[:TRAIN_SIZE], order[TRAIN_SIZE : 2 * TRAIN_SIZE]
    return dataclasses.replace(
        data,
        train_images=data.train_images[train_part],
        train_labels=data.train_labels[train_part],
        test_images=data.train_images[test_part],
        test_labels=data.train_labels[test_part],
    )


def score(data: ImageData, method: type | None, rate: float, seed: int) -> float:
    """Accuracy on the held-out images."""
    torch.manual_seed(seed)
    model = resnet20_cifar(method, len(data.classes), data.image_shape[0], input_size=data.image_shape[1])
    schedule = Cosine(warmup=WARMUP)
    recipe = Recipe(epochs=EPOCHS, batch_size=BATCH_SIZE, learning_rate=rate, schedule=schedule, seed=seed)
    return train(model, data, recipe, progress=False).final.test_accuracy


def main(folder: str) -> None:
    torch.set_num_threads(1)
    data = held_out(fashion_mnist(folder))
    print("| learning rate |", " | ".join("float twin" if m is None else m.__name__ for m in METHODS), "| mean |")
    print("|--:|" + "--:|" * (len(METHODS) + 1))
    for rate in RATES:
        found = [fmean(score(data, method, rate, seed) for seed in SEEDS) for method in METHODS]
        print(
            f"| {rate:g} |",
            " | ".join(f"{100 * a:.1f} %" for a in found),
            f"| {100 * fmean(found):.1f} % |",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1])
