# SPDX-License-Identifier: Apache-2.0
"""What the classifications of square images share: their networks and their common recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from bittern import models
from bittern.bench.tracks.problem import Family, Network
from bittern.data.augment import Augment
from bittern.data.images import ImageData
from bittern.pretrained.answers import Classes
from bittern.pretrained.preparations import ImagePreparation
from bittern.pretrained.use import Use
from bittern.quantizer import Method
from bittern.train import Cosine, Recipe

VGG_WIDTH = 32
"""A quarter of the literature's: a step costs about what ResNet-20's does."""
BATCH_SIZE = 50
LEARNING_RATE = 3e-2
WARMUP = 0.1
VIT_RATE = 1e-2
"""Of 0.001, 0.003, 0.01 and 0.03, on held-out digits after four epochs, the best mean of the float twin, BNN and ReCU:
at 0.03 both methods are better (0.76 and 0.79 for 0.67 and 0.71), and the twin is lost (0.26 for 0.68)."""


def image_networks(channels: int, size: int, classes: int) -> Mapping[str, Network]:
    """ResNet-20 first, for images [batch, channels, size, size]."""

    sizes = {"num_classes": classes, "in_channels": channels, "input_size": size}

    def made(function: Callable[..., nn.Module], family: Family, rate: float | None = None, **options: int) -> Network:
        return Network(partial(_built, function, sizes | options), family, rate)

    return {
        "resnet20_cifar": made(models.resnet20_cifar, "CNN"),
        "vgg_small": made(models.vgg_small, "CNN", width=VGG_WIDTH),
        "vit_small": made(models.vit_small, "Transformer", VIT_RATE),
        "mixer_small": made(models.mixer_small, "MLP"),
        "mlp": made(models.mlp, "MLP"),
    }


def _built(function: Callable[..., nn.Module], options: Mapping[str, int], method: Method | None) -> nn.Module:
    """A function of this file and a partial of it, because a problem travels to other processes."""
    return function(method, **options)


def image_use(data: ImageData) -> Use:
    """Of pictures that are normalized as the training images are."""
    return Use(data.classes, ImagePreparation(data.image_shape, data.mean, data.std), Classes())


def image_inputs(channels: int, size: int) -> Callable[[int], Tensor]:
    """Random ones, of mean 0 and variance 1 as normalized images are."""
    return partial(_drawn, (channels, size, size))


def _drawn(shape: tuple[int, ...], count: int) -> Tensor:
    return torch.randn(count, *shape)


def image_recipe(augment: Augment | None = None) -> Recipe:
    """AdamW with a warm-up and a cosine; its rate was picked by short trials of the float twin, BNN and ReCU on
    Fashion-MNIST, scored on held-out training images.

    On 10,000 images of the CIFAR-10 copy, ResNet-20, two epochs and seed 0, on the held-out tenth: at 0.003, 0.01 and
    0.03 the twin 0.350, 0.365 and 0.357, BNN 0.234, 0.290 and 0.308, ReCU 0.261, 0.297 and 0.334.
    """
    return Recipe(
        epochs=1, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE, schedule=Cosine(warmup=WARMUP), augment=augment
    )
