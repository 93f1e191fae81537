# SPDX-License-Identifier: Apache-2.0
"""Plain float ResNets: those of ImageNet (He et al. 2015, arXiv 1512.03385), and the one of CIFAR-10 in the data.

The stride of a bottleneck is in its 3x3 convolution, as today's libraries have it; the paper's is in the first 1x1.
"""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512)
EXPANSION = 4


def resnet18() -> nn.Module:
    """x [batch, 3, 224, 224] -> logits [batch, 1000], random weights."""
    return _resnet((2, 2, 2, 2), bottleneck=False)


def resnet50() -> nn.Module:
    """x [batch, 3, 224, 224] -> logits [batch, 1000], random weights."""
    return _resnet((3, 4, 6, 3), bottleneck=True)


class Block(nn.Module):
    """relu(body(x) + shortcut(x))."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, *, relu: bool = True) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.ReLU()] if relu else []))


def _block(inputs: int, width: int, stride: int, *, bottleneck: bool) -> Block:
    outputs = width * (EXPANSION if bottleneck else 1)
    if bottleneck:
        last = _conv(width, outputs, 1, relu=False)
        body = nn.Sequential(_conv(inputs, width, 1), _conv(width, width, 3, stride), last)
    else:
        body = nn.Sequential(_conv(inputs, width, 3, stride), _conv(width, outputs, 3, relu=False))
    same = inputs == outputs and stride == 1
    return Block(body, nn.Identity() if same else _conv(inputs, outputs, 1, stride, relu=False))


def _resnet(counts: tuple[int, ...], *, bottleneck: bool) -> nn.Module:
    layers: list[nn.Module] = [_conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, (width, count) in enumerate(zip(WIDTHS, counts, strict=True)):
        for index in range(count):
            layers.append(_block(channels, width, 2 if stage and not index else 1, bottleneck=bottleneck))
            channels = width * (EXPANSION if bottleneck else 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


# -- ResNet-20 of CIFAR-10, with the names of its file


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; a shortcut that changes the size takes every second pixel and adds channels of zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.added = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.added:
            half = self.added // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
        return F.relu(y + x)


class ResNet20(nn.Module):
    """x [batch, 3, 32, 32] -> logits [batch, 10]; shortcuts without parameters (option A of the paper)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, 1)
        self.layer2 = _stage(16, 32, 2)
        self.layer3 = _stage(32, 64, 2)
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1), BasicBlock(outputs, outputs, 1)
    )


def trained_resnet20(file: Path) -> ResNet20:
    """With the weights of a safetensors file. Raises: OSError; RuntimeError for other tensors than its own."""
    model = ResNet20()
    wanted = model.state_dict()
    counters = {name: tensor for name, tensor in wanted.items() if name.endswith("num_batches_tracked")}
    model.load_state_dict({**counters, **load_file(file)})
    return model
