# SPDX-License-Identifier: Apache-2.0
"""A ReLU network made binary: what fails, and what learns; docs/make_it_binary.md tells why.

`python examples/make_it_binary.py [SEEDS [FASHION_MNIST_FOLDER]]`; without a folder it learns the embedded digits.
"""

from __future__ import annotations

import dataclasses
import sys
import warnings

import torch
from torch import Tensor, nn

import bittern
from bittern.binary import BiRealNet
from bittern.data import ImageData, digits, fashion_mnist
from bittern.nn import ConstantInputWarning, first_and_last
from bittern.train import Recipe, train


class Block(nn.Module):
    """ResNet's basic block: a ReLU in front of each convolution's sign, one shortcut around two convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu1, self.relu2, self.downsample = nn.ReLU(), nn.ReLU(), nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.downsample.append(nn.Conv2d(inputs, outputs, 1, stride, bias=False)).append(nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        z: Tensor = self.relu2(y + self.downsample(x))
        return z


class BinaryBlock(Block):
    """The same layers, with a shortcut around each convolution and no activation on it."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x))) + self.downsample(x)
        z: Tensor = self.relu2(self.bn2(self.conv2(y))) + y
        return z


def resnet18(block: type[Block], channels: int, side: int, width: int = 8) -> nn.Sequential:
    """ResNet-18 for small images: a 3x3 stem, which halves a side above 16, and four stages of two blocks."""
    layers = [nn.Conv2d(channels, width, 3, 2 if side > 16 else 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    for stage, outputs in enumerate(width * 2**i for i in range(4)):
        layers += [block(max(width, outputs // 2), outputs, 2 if stage else 1), block(outputs, outputs, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, 10))


def accuracy(step: str, data: ImageData, seed: int) -> float:
    """Test accuracy after a short training of one of the four networks."""
    torch.manual_seed(seed)
    _, channels, side, _ = data.train_images.shape
    model: nn.Module = resnet18(BinaryBlock if step == STEPS[3] else Block, channels, side)
    example = torch.randn(8, channels, side, side)
    if step == STEPS[1]:
        model = bittern.convert(model, BiRealNet, keep=[first_and_last], example=example)
    elif step != STEPS[0]:
        model = bittern.convert(model, BiRealNet, activation=nn.Hardtanh, example=example)
    return (
        train(model, data, Recipe(epochs=4, batch_size=64, learning_rate=3e-3), progress=False).epochs[-1].test_accuracy
    )


STEPS = ("float", "all but first and last, ReLUs kept", "shortcuts real, ReLUs swapped", "a free shortcut around each")
if __name__ == "__main__":
    warnings.simplefilter("ignore", ConstantInputWarning)  # the second network is what it warns of
    data = fashion_mnist(sys.argv[2]) if len(sys.argv) > 2 else digits()
    data = dataclasses.replace(data, train_images=data.train_images[:3000], train_labels=data.train_labels[:3000])
    for step in STEPS:
        found = [accuracy(step, data, seed) for seed in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1)]
        print(f"{step:36s}", *(f"{a:6.1%}" for a in found), f"  mean {sum(found) / len(found):.1%}", flush=True)
