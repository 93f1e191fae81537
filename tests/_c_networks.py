# SPDX-License-Identifier: Apache-2.0
"""Small networks that together have every kind of node and every geometry, for the tests of the C code."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import _quantizers
from _bit_networks import Inception, Windows, randomize_norm
from bittern.binary import BNN, DoReFa, ReActNet, XNORNet, XNORNetPlusPlus
from bittern.deploy import Packed, pack
from bittern.deploy.program import Node, Program, one_input
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear, ConstantInputWarning, DPReLU, RPReLU, RSign
from bittern.quant import LSQ, WAGE
from bittern.quantizer import InputScale, Method


def randomize(model: nn.Module) -> nn.Module:
    """Statistics, slopes of both signs, one slope of zero, and parameters away from their start values."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                randomize_norm(module)
                module.weight[0] = 0
    return model


class Everything(nn.Module):
    """Every real kind, and what moves values about."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, (3, 2), stride=2, padding=(1, 2), dilation=(1, 2), groups=3)
        self.layers = nn.Sequential(
            nn.BatchNorm2d(12),
            nn.PReLU(12),
            nn.PReLU(),
            RPReLU(12),
            DPReLU(12),
            nn.Hardsigmoid(),
            nn.ReLU6(),
            nn.LeakyReLU(0.3),
            nn.SiLU(),
            nn.GELU(),
        )
        self.maximum = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
        self.average = nn.AvgPool2d((2, 3), 2, ceil_mode=True, count_include_pad=False)
        self.padded = nn.AvgPool2d(3, 2, 1, ceil_mode=True)
        self.rsign = RSign(12)
        self.low = BinaryConv2d(12, 70, 3, padding=1, stride=2, method=XNORNet)
        self.norm = nn.LayerNorm(70)
        self.fc = BinaryLinear(70, 8, bias=True, method=DoReFa)
        self.conv1 = BinaryConv1d(8, 8, 3, padding=1, method=BNN)
        self.head = nn.Linear(16, 11)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.conv(x))
        x = torch.cat([self.maximum(x), self.maximum(x)[:, 2:8:2]], 1)[:, 1:13]
        x = F.pad(self.average(x * 0.5 + 0.25), (1, 0, 0, 2), value=0.5) - 1.5
        x = self.padded(x) + x.mean((2, 3), keepdim=True)
        x = torch.tanh(x) * torch.sigmoid(self.rsign(x)) - F.relu(x)
        x = self.low(x).flatten(2).permute(0, 2, 1)
        x = self.fc(self.norm(x)).permute(0, 2, 1)
        x = F.hardtanh(self.conv1(x)).clamp(-0.5, 0.5)
        x = self.head(F.adaptive_avg_pool1d(x, 2).reshape(-1, 16))
        return F.log_softmax(x, dim=1) * F.softmax(x, dim=1)


class Residual(nn.Module):
    """Shortcuts, groups that fill no word, dilation, bias, padding of 1, K of XNOR-Net, a low-bit linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.norm0 = nn.BatchNorm2d(24)
        self.a = BinaryConv2d(24, 24, 3, padding=1, groups=3, method=BNN)
        self.norm1 = nn.BatchNorm2d(24)
        self.b = BinaryConv2d(24, 65, 3, padding=2, dilation=2, bias=True, method=ReActNet, pad_value=1)
        self.c = BinaryConv2d(65, 24, (1, 3), stride=2, padding=(0, 1), bias=True, method=XNORNet)
        self.d = BinaryConv2d(24, 48, 3, padding=1, groups=24, bias=True, method=ReActNet, pad_value=-1)
        self.pool = nn.MaxPool2d(2)
        self.fc = BinaryLinear(48, 33, bias=True, method=BNN)
        self.norm2 = nn.BatchNorm1d(33)
        self.head = nn.Linear(33, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardtanh(self.norm0(self.stem(x)))
        x = F.hardtanh(self.norm1(self.a(x)) + x)
        x = self.pool(self.d(self.c(self.b(x))))
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        return self.head(self.norm2(self.fc(x)))


class Speech(nn.Module):
    """One dimension, then a linear layer with leading dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = BinaryConv1d(10, 24, 5, stride=2, padding=2, method=XNORNet)
        self.norm = nn.BatchNorm1d(24)
        self.conv2 = BinaryConv1d(24, 8, 3, padding=1, method=BNN, pad_value=-1)
        self.fc = BinaryLinear(8, 6, bias=True, method=XNORNet)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv2(self.norm(self.conv(x))).permute(0, 2, 1))


def chain(method: Method) -> nn.Module:
    """Signs behind batch norms, of which only integer thresholds are left, between layers of odd sizes."""
    return nn.Sequential(
        BinaryConv2d(3, 40, 3, padding=1, method=method),
        nn.BatchNorm2d(40),
        nn.Hardtanh(),
        BinaryConv2d(40, 33, (3, 2), stride=(2, 1), padding=1, method=method),
        nn.BatchNorm2d(33),
        nn.Flatten(),
        BinaryLinear(33 * 3 * 7, 70, method=method),
        nn.BatchNorm1d(70),
        BinaryLinear(70, 10, method=method),
        nn.BatchNorm1d(10),
    )


def stem(method: Method) -> nn.Module:
    """A convolution that goes on to bits at once, in groups, with bias and batch norm."""
    return nn.Sequential(
        nn.Conv2d(3, 39, (3, 2), stride=(2, 1), padding=1, groups=3),
        nn.BatchNorm2d(39),
        nn.Hardtanh(-0.7, 0.6),
        BinaryConv2d(39, 8, 3, method=method),
    )


def plain_stem(method: Method) -> nn.Module:
    """The same without anything between convolution and sign, in one dimension."""
    return nn.Sequential(nn.Conv1d(3, 33, 3, bias=False), BinaryConv1d(33, 8, 3, method=method))


def planes(method: Method) -> nn.Module:
    """A layer of several planes behind another, with bias."""
    return nn.Sequential(
        BinaryConv2d(3, 12, 3, padding=1, bias=True, method=method),
        nn.BatchNorm2d(12),
        BinaryConv2d(12, 7, 3, stride=2, padding=1, method=method),
        nn.Flatten(),
        BinaryLinear(7 * 9, 6, bias=True, method=method),
    )


def rows(method: Method) -> nn.Module:
    """Linear layers alone."""
    return nn.Sequential(BinaryLinear(9, 70, bias=True, method=method), nn.ReLU(), BinaryLinear(70, 4, method=method))


def whole_steps() -> nn.Module:
    """Rows of whole numbers that lie in floats, and behind them rows of bits."""
    return nn.Sequential(
        BinaryLinear(9, 70, bias=True, method=WAGE), nn.ReLU(), BinaryLinear(70, 4, method=_quantizers.Rows)
    )


class Twice(nn.Module):
    """A layer that is called twice, so its constants are shared, and the input as the shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = BinaryConv2d(6, 6, 3, padding=1, method=ReActNet)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.norm(self.conv(x)) + x) - x)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "everything": (Everything, (3, 33, 30)),
    "residual": (Residual, (3, 17, 15)),
    "speech": (Speech, (10, 31)),
    "twice": (Twice, (6, 5, 5)),
    "reshape only": (nn.Flatten, (2, 3)),
    "chain BNN": (partial(chain, BNN), (3, 6, 6)),
    "chain ReActNet": (partial(chain, ReActNet), (3, 6, 6)),
    "chain DoReFa": (partial(chain, DoReFa), (3, 6, 6)),
    "stem ReActNet": (partial(stem, ReActNet), (3, 9, 10)),
    "stem DoReFa": (partial(stem, DoReFa), (3, 9, 10)),
    "plain stem": (partial(plain_stem, BNN), (3, 40)),
    "stem XNORNet": (partial(stem, XNORNet), (3, 9, 10)),
    "DoReFa 2 2": (partial(planes, partial(DoReFa, weight_bits=2, input_bits=2)), (3, 6, 6)),
    "DoReFa 3 1": (partial(planes, partial(DoReFa, weight_bits=3, input_bits=1)), (3, 6, 6)),
    "DoReFa 1 4": (partial(planes, partial(DoReFa, weight_bits=1, input_bits=4)), (3, 6, 6)),
    "DoReFa 2 8": (partial(planes, partial(DoReFa, weight_bits=2, input_bits=8)), (3, 6, 6)),
    "ternary": (partial(planes, _quantizers.METHODS["ternary"]), (3, 6, 6)),
    "ternary 3": (partial(planes, _quantizers.METHODS["ternary-3"]), (3, 6, 6)),
    "five levels 2": (partial(planes, _quantizers.METHODS["five-2"]), (3, 6, 6)),
    "three terms 2": (partial(planes, _quantizers.METHODS["terms-3-2"]), (3, 6, 6)),
    "XNORNet per sample": (partial(planes, partial(XNORNet, input_scale=InputScale.PER_SAMPLE)), (3, 6, 6)),
    "XNORNet no scale": (partial(planes, partial(XNORNet, input_scale=InputScale.NONE)), (3, 6, 6)),
    "windows": (Windows, (5, 11, 14)),
    "windows DoReFa": (partial(Windows, DoReFa), (5, 11, 14)),
    "side by side": (partial(Inception, ReActNet), (3, 9, 10)),
    "planes side by side": (partial(Inception, partial(DoReFa, weight_bits=2, input_bits=2)), (3, 9, 10)),
    "learned range": (partial(planes, partial(_quantizers.Ranged, bits=2)), (3, 6, 6)),
    "odd levels": (partial(rows, partial(_quantizers.Ranged, bits=2, signed=True)), (9,)),
    "rows": (partial(rows, _quantizers.Rows), (9,)),
    "steps": (partial(rows, LSQ), (9,)),
    "whole steps": (whole_steps, (9,)),
    "XNORNetPlusPlus": (partial(planes, XNORNetPlusPlus), (3, 6, 6)),
}
"""Name -> (model, shape of a sample)."""


@cache
def packed_case(name: str, samples: int) -> tuple[Packed, Tensor]:
    """A case with random parameters, and a batch for it. They are shared: change neither."""
    torch.manual_seed(0)
    make, shape = CASES[name]
    batch = torch.randn(samples, *shape)
    model = make()
    model(batch)  # XNOR-Net++ makes its factors when it sees an input
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)  # random parameters may hide an input
        return pack(randomize(model).eval(), batch[:1]), batch


def hand_made(
    kind: str, tensors: dict[str, Tensor], attrs: dict[str, object], shape: tuple[int, ...] = (4, 3, 3)
) -> Packed:
    """A program of one node."""
    node = Node(kind, "only", (0,), 1, attrs, {role: f"only.{role}" for role in tensors})  # type: ignore[arg-type]
    program = Program((node,), one_input(shape), 1)
    return Packed(program, {f"only.{role}": t for role, t in tensors.items()}, {}, torch.device("cpu"))
