# SPDX-License-Identifier: Apache-2.0
"""The shape rules agree with what the nodes really compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern.binary import BNN, DoReFa, XNORNet
from bittern.deploy import pack
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.packed import Packed
from bittern.deploy.shapes import forms_of
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear, RPReLU, RSign

# networks are drawn or written for their shapes here: a sign behind a ReLU is as good as any other
pytestmark = pytest.mark.filterwarnings("ignore::bittern.ConstantInputWarning")


class Everything(nn.Module):
    """Every real kind once."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, (3, 2), stride=2, padding=(1, 2), dilation=(1, 2), groups=3)
        self.layers = nn.Sequential(
            nn.BatchNorm2d(12),
            nn.PReLU(12),
            nn.PReLU(),
            RPReLU(12),
            nn.ReLU6(),
            nn.LeakyReLU(0.3),
            nn.SiLU(),
            nn.GELU(),
        )
        self.maximum = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
        self.average = nn.AvgPool2d((2, 3), 2, ceil_mode=True, count_include_pad=False)
        self.rsign = RSign(12)
        self.low = BinaryConv2d(12, 70, 3, padding=1, stride=2, method=XNORNet)
        self.norm = nn.LayerNorm(70)
        self.fc = BinaryLinear(70, 8, method=DoReFa)
        self.conv1 = BinaryConv1d(8, 8, 3, padding=1, method=BNN)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.conv(x))
        x = torch.cat([self.maximum(x), self.maximum(x)[:, 2:8:2]], 1)[:, :12]
        x = F.pad(self.average(x * 0.5 + 0.25), (1, 0, 0, 2)) - 1.5
        x = torch.tanh(x) * torch.sigmoid(self.rsign(x)) - F.relu(x)
        x = self.low(x).flatten(2).permute(0, 2, 1)
        x = self.fc(self.norm(x)).permute(0, 2, 1)
        x = F.hardtanh(self.conv1(x)).clamp(-0.5, 0.5)
        x = F.adaptive_avg_pool1d(x, 2).reshape(-1, 16)
        return F.log_softmax(x, dim=1)


def actual_shapes(packed: Packed, x: Tensor) -> dict[int, tuple[int, ...]]:
    values: dict[int, Any] = {0: x}
    for node in packed.program.nodes:
        named = node.named(packed.tensors)
        step = KINDS[node.kind].build(node, named, packed.device)
        values[node.output] = step(*(values[v] for v in node.inputs))
    return {v: tuple(value.shape) for v, value in values.items() if isinstance(value, Tensor)}


@pytest.mark.parametrize("size", [(11, 13), (16, 16), (9, 24)])
def test_rules_give_the_shapes_of_a_run(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = Everything().eval()
    x = torch.randn(1, 3, *size)
    packed = pack(model, x)
    forms = forms_of(packed.program, packed.tensors)
    with torch.no_grad():
        actual = actual_shapes(packed, x)
    for value, shape in actual.items():
        if forms[value].type == "real":
            assert forms[value].shape == shape
    assert len(actual) > 25
    assert torch.equal(packed(x), model(x).detach())
