# SPDX-License-Identifier: Apache-2.0
"""What is quantized: float networks with random weights whose time counts, and trained ones that are judged too.

Targets are those of the project, for one image on one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bittern.bench.core.training import fresh
from bittern.bench.integers.others.networks import Other, others
from bittern.bench.integers.peers import LITERT
from bittern.bench.integers.resnet import resnet18, resnet50, trained_resnet20
from bittern.bench.speed.mobilenet import mobilenet_v1, mobilenet_v2
from bittern.bench.speed.peers import ONNX_INT8, OPENVINO_INT8
from bittern.data.cifar10 import cifar10

LARGE = (3, 224, 224)
CALIBRATION = 32
"""Inputs of noise by which a network of random weights is calibrated: its time does not depend on them."""
CALIBRATION_IMAGES = 512
"""Of the training part, where there is one."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STEPS, FEATURES, HIDDEN, ANSWERS = 50, 40, 128, 12
"""Of a recurrent network, as one that hears key words."""
CIFAR, RESNET20 = "cifar10_jpeg75", "resnet20_cifar10_jpeg75/resnet20_cifar10_jpeg75_finetuned.safetensors"
TINY = "mlperf_tiny_models"
FASTER = {OPENVINO_INT8.name: 1.0, ONNX_INT8.name: 1.3}


class Test(NamedTuple):
    """Examples that nothing was chosen by."""

    inputs: Tensor
    labels: Tensor


class Examples(NamedTuple):
    """What a network is calibrated by, and what it is judged by."""

    calibration: Tensor
    test: Test | None = None


@dataclass(frozen=True)
class Network:
    """A float network to quantize. It goes to other processes, so no lambda is in it."""

    name: str
    title: str
    build: Callable[[Path | None], nn.Module]
    """From the folder of data sets, if there is one: the float network in eval mode."""
    input_shape: tuple[int, ...]
    """Of one input."""
    examples: Callable[[Path | None], Examples]
    targets: Mapping[str, float] = field(default_factory=dict)
    """Name of a peer -> how many times faster than it the quantized network should be, on one thread."""
    needs: tuple[str, ...] = ()
    """Files or folders of the data without which it is left out."""

    def missing(self, data: Path | None) -> str | None:
        """Why it is left out, or None."""
        absent = [name for name in self.needs if data is None or not (data / name).exists()]
        return f"{self.title}: needs {', '.join(absent)} in the folder of --data" if absent else None


@dataclass(frozen=True)
class Filed:
    """An int8 network in a file of TensorFlow Lite by its authors."""

    name: str
    title: str
    file: str
    """In the folder of data sets."""
    targets: Mapping[str, float] = field(default_factory=lambda: {LITERT.name: 1.5})

    def missing(self, data: Path | None) -> str | None:
        """Why it is left out, or None."""
        there = data is not None and (data / self.file).is_file()
        return None if there else f"{self.title}: needs {self.file} in the folder of --data"


Subject = Network | Filed | Other


def subjects() -> tuple[Subject, ...]:
    """All that is measured, in the order of the table."""
    return (*networks(), *files(), *others())


def networks() -> tuple[Network, ...]:
    """All that are quantized, in the order of the table."""
    return (
        _untrained("resnet18", "ResNet-18", resnet18),
        _untrained("resnet50", "ResNet-50", resnet50),
        _untrained("mobilenet_v1", "MobileNetV1", mobilenet_v1),
        _untrained("mobilenet_v2", "MobileNetV2", mobilenet_v2),
        Network(
            "resnet20", "ResNet-20, CIFAR-10 (JPEG)", _resnet20, (3, 32, 32), _photographs, needs=(CIFAR, RESNET20)
        ),
        *(_recurrent(name, layer) for name, layer in (("lstm", nn.LSTM), ("gru", nn.GRU))),
    )


def files() -> tuple[Filed, ...]:
    """All that come in 8 bits, in the order of the table."""
    return (
        Filed("ds_cnn", "DS-CNN, key words", f"{TINY}/kws_dscnn_int8.tflite"),
        Filed("resnet8", "ResNet-8, CIFAR-10", f"{TINY}/ic_resnet8_int8.tflite"),
        Filed("mobilenet_v1_025", "MobileNetV1 0.25, 96 x 96", f"{TINY}/vww_mobilenet025_int8.tflite"),
    )


def _untrained(name: str, title: str, build: Callable[[], nn.Module]) -> Network:
    return Network(name, f"{title}, 224 x 224", partial(_started, build), LARGE, partial(noise, LARGE), FASTER)


class _Recurrent(nn.Module):
    """Two layers over steps, and a linear layer behind the last one."""

    def __init__(self, layer: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.layers = layer(FEATURES, HIDDEN, 2, batch_first=True)
        self.answers = nn.Linear(HIDDEN, ANSWERS)

    def forward(self, x: Tensor) -> Tensor:
        steps, _ = self.layers(x)
        answers: Tensor = self.answers(steps[:, -1])
        return answers


def _recurrent(name: str, layer: type[nn.LSTM] | type[nn.GRU]) -> Network:
    title = f"{layer.__name__}, 2 layers of {HIDDEN}, {STEPS} steps of {FEATURES}"
    build, shape = partial(_Recurrent, layer), (STEPS, FEATURES)
    return Network(name, title, partial(_started, build), shape, partial(noise, shape))


def _started(build: Callable[[], nn.Module], data: Path | None) -> nn.Module:
    return fresh(build, 0).eval()


def noise(shape: tuple[int, ...], data: Path | None) -> Examples:
    """To calibrate a network of random weights by."""
    return Examples(torch.randn(CALIBRATION, *shape, generator=torch.Generator().manual_seed(0)))


def _resnet20(data: Path | None) -> nn.Module:
    assert data is not None  # Network.missing has looked
    return trained_resnet20(data / RESNET20).eval()


def _photographs(data: Path | None) -> Examples:
    assert data is not None  # Network.missing has looked
    found = cifar10(data / CIFAR)
    chosen = torch.randperm(len(found.train_images), generator=torch.Generator().manual_seed(0))[:CALIBRATION_IMAGES]
    test = Test(normalized(found.test_images), found.test_labels)
    return Examples(normalized(found.train_images[chosen]), test)


def normalized(images: Tensor) -> Tensor:
    """uint8 [count, 3, height, width] as its network was trained with."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images.float() / 255.0 - mean) / std
