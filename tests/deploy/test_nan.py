# SPDX-License-Identifier: Apache-2.0
"""NaN and infinities in the input go the same way packed as in the training graph, for every code of inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bittern.binary import ALL, BNN, DoReFa, ReActNet, XNORNet
from bittern.deploy import pack
from bittern.deploy.interpreter import Interpreter
from bittern.deploy.packed import Packed
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear, RPReLU, RSign
from bittern.quantizer import InputScale

pytestmark = pytest.mark.filterwarnings("ignore::bittern.ConstantInputWarning")

QUIET, PAYLOAD, FULL, NEGATIVE, SIGNALLING = 0x7FC00000, 0x7FC00001, 0x7FFFFFFF, 0xFFC00003, 0x7F800001
"""Bits of NaNs."""

PLAIN = np.array([np.inf, -np.inf, 1e-40, -1e-40, -0.0, 3.4e38], np.float32)

SPECIAL = torch.from_numpy(
    np.concatenate([np.array([QUIET, PAYLOAD, FULL, NEGATIVE, SIGNALLING], np.uint32).view(np.float32), PLAIN])
)

METHODS = [
    *ALL,
    *(partial(DoReFa, input_bits=bits, weight_bits=2) for bits in (2, 3, 8)),
    partial(XNORNet, input_scale=InputScale.PER_SAMPLE),
    partial(XNORNet, input_scale=InputScale.NONE),
]


def shown(shape: tuple[int, ...]) -> Tensor:
    """A sample for each special value, in every fifth place; one of NaN alone; two of plain numbers."""
    x = torch.randn(len(SPECIAL) + 3, *shape)
    for row, value in enumerate(SPECIAL):
        x[row].view(-1)[::5] = value
    x[-1] = float("nan")
    return x


def agree(packed: Packed, model: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        want = model(x.clone())
    for run in (packed, Interpreter(packed.program, packed.tensors, packed.device)):
        with torch.no_grad():
            got = run(x)
        assert torch.equal(got.isnan(), want.isnan())
        assert torch.equal(got.nan_to_num(0.0), want.nan_to_num(0.0))


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_codes_of_inputs(method: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    for layer, shape in (
        (BinaryConv2d(24, 8, 3, padding=1, method=method), (24, 5, 6)),
        (BinaryConv1d(5, 6, 3, method=method), (5, 20)),
        (BinaryLinear(70, 6, method=method), (70,)),
    ):
        model = nn.Sequential(layer).eval()
        model(torch.randn(1, *shape))
        agree(pack(model, torch.randn(1, *shape)), model, shown(shape))


@pytest.mark.parametrize("method", [DoReFa, partial(DoReFa, input_bits=4)], ids=str)
def test_a_nan_reaches_no_level_and_gets_no_gradient(method: Callable[..., nn.Module]) -> None:
    layer = BinaryLinear(2, 1, method=method)
    x = torch.tensor([[float("nan"), 1.0]], requires_grad=True)
    assert layer.method.input(x).values.tolist()[0][0] == 0.0
    layer(x).sum().backward()
    assert x.grad is not None
    assert x.grad[0, 0] == 0.0


class Residual(nn.Module):
    """A NaN goes on beside the signs, through norms, activations, pools and means."""

    def __init__(self, method: Callable[..., nn.Module], act: Callable[[], nn.Module], pool: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), act(), pool)
        self.conv = BinaryConv2d(16, 16, 3, padding=1, method=method)
        self.tail = nn.Sequential(nn.BatchNorm2d(16), act())
        self.last = nn.Sequential(BinaryConv2d(16, 16, 3, padding=1, method=method), nn.BatchNorm2d(16), act())
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.tail(self.conv(x) + x)
        return self.head((self.last(x) + x).mean((2, 3)))


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardtanh": nn.Hardtanh,
    "prelu": lambda: nn.PReLU(16),
    "rprelu": lambda: RPReLU(16),
    "rsign": lambda: RSign(16),
}


POOLS = nn.Identity(), nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2)


@pytest.mark.parametrize("pool", range(len(POOLS)), ids=lambda i: str(POOLS[i]))
@pytest.mark.parametrize("act", range(len(ACTIVATIONS)), ids=lambda i: list(ACTIVATIONS)[i])
def test_whole_networks(act: int, pool: int) -> None:
    """The methods take turns, so that each meets every activation and every pool."""
    torch.manual_seed(0)
    method = (BNN, ReActNet, partial(DoReFa, input_bits=4))[(act + pool) % 3]
    model = Residual(method, list(ACTIVATIONS.values())[act], POOLS[pool])
    for _ in range(3):
        model(torch.randn(8, 3, 8, 8))
    agree(pack(model.eval(), torch.randn(1, 3, 8, 8)), model, shown((3, 8, 8)))
