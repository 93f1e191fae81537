# SPDX-License-Identifier: Apache-2.0
"""Chains of operations on each number run as one native step, with the bits of the nodes one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _bit_networks import randomize_norm
from _c_program import build, run
from bittern.binary import BNN
from bittern.deploy import Packed, pack
from bittern.deploy.engine.engine import Engine
from bittern.deploy.engine.groups.map import Map
from bittern.deploy.engine.groups.rows import RowProduct
from bittern.deploy.interpreter import Interpreter
from bittern.models._layers import ChannelGate
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear, DPReLU, RPReLU

pytestmark = pytest.mark.filterwarnings("ignore::bittern.ConstantInputWarning")

WIDTH = 19


def product(width: int = WIDTH) -> BinaryConv2d:
    return BinaryConv2d(width, width, 3, padding=1, method=BNN)


def norm(width: int = WIDTH) -> nn.Module:
    return nn.BatchNorm2d(width)


def shuffled(model: nn.Module) -> nn.Module:
    """In eval mode, with other norms, slopes and shifts than those of the start."""
    torch.manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            randomize_norm(module)
        if isinstance(module, DPReLU | RPReLU | nn.PReLU):
            for parameter in module.parameters():
                nn.init.normal_(parameter)
    return model.eval()


def chains(packed: Packed, inputs: Sequence[Tensor]) -> list[str]:
    """What the chains do, once the engine has the bits of single nodes: for numbers, zeros, infinities and NaN."""
    engine, plain = (
        Engine(packed.program, packed.tensors),
        Interpreter(packed.program, packed.tensors, torch.device("cpu")),
    )
    for x in inputs:
        mine, expected = engine(x), plain(x)
        assert torch.equal(mine.isnan(), expected.isnan())
        assert torch.equal(mine.nan_to_num(7.0), expected.nan_to_num(7.0))
        assert torch.equal(mine.signbit() & (mine == 0), expected.signbit() & (expected == 0))
    return [group.does() for group in engine.groups if isinstance(group, Map)]


def odd_inputs(*shape: int) -> tuple[Tensor, ...]:
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(5))
    special = x.clone()
    special.view(-1)[:6] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0, 1e-40])
    return x, special, torch.cat((x, x, x))


class Gated(nn.Module):
    """The end of a block of PokeBNN, and of one of BNext."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTH, 3, padding=1, bias=False), norm())
        self.first, self.second = product(), product()
        self.norms = nn.ModuleList(norm() for _ in range(4))
        self.act, self.prelu = DPReLU(WIDTH), nn.PReLU(WIDTH)
        self.gate, self.other = (ChannelGate(WIDTH, WIDTH, make()) for make in (nn.Hardsigmoid, nn.Sigmoid))
        self.share = nn.Parameter(torch.rand(WIDTH, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norms[0](self.first(x)) + x + F.relu6(x)
        y = self.norms[1](self.act(y) * self.gate(x))
        z = self.prelu(self.norms[2](self.second(y)))
        q = self.other(self.share * y + (1 - self.share) * z) * z
        result: Tensor = self.norms[3](q * x) + x
        return result


def test_gated_blocks() -> None:
    inputs = odd_inputs(3, 5, 7)
    packed = pack(shuffled(Gated()), inputs[0])
    found = chains(packed, inputs)
    assert "relu6, sum, dprelu, product, scale" in found
    assert "scale, sum" in found
    assert "product, product, scale, sum" in found
    # the layers of gates are products of rows, where torch's order of sums is found
    assert sum(isinstance(group, RowProduct) and group.node.kind == "conv" for group in packed.engine.groups) == 4


class Neighbours(nn.Module):
    """Means of neighbouring channels, as PokeBNN has them."""

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 12, 1, bias=False), norm(12), product(12), norm(12), nn.Hardtanh())
        self.count, self.dim = count, dim

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).unflatten(1, (12 // self.count, self.count)).mean(self.dim)


@pytest.mark.parametrize(("count", "dim"), [(2, 2), (3, 2), (4, 2), (4, 1)])
def test_means_of_neighbouring_channels(count: int, dim: int) -> None:
    inputs = odd_inputs(3, 5, 7)
    packed = pack(shuffled(Neighbours(count, dim)), inputs[0])
    chains(packed, inputs)
    assert ("mean of neighbours" in [group.does() for group in packed.engine.groups]) == (dim == 2)


class Several(nn.Module):
    """Sums with itself, of two maps, with a slice of a concatenation, and of more values than one step reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTH, 1, bias=False), norm())
        self.layers = nn.ModuleList(product() for _ in range(4))
        self.norms = nn.ModuleList(norm() for _ in range(3))
        self.act = RPReLU(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        a, b, c, d = (layer(x) for layer in self.layers)
        y = self.act((a + a) * 0.3 + 1.5)
        z = self.norms[0](F.relu(b)) + self.norms[1](F.relu(c))
        wide = torch.cat((y, z), 1)
        d = F.hardtanh(self.norms[2](d) * 2.0, -0.7, 0.2)
        result: Tensor = (d * wide[:, WIDTH:] + y) * x + z
        return result


def test_operands_of_any_kind() -> None:
    inputs = odd_inputs(3, 6, 5)
    assert len(chains(pack(shuffled(Several()), inputs[0]), inputs)) >= 4


def test_channels_beyond_one_tile() -> None:
    wide = 300
    layers = (nn.Conv2d(3, wide, 1, bias=False), norm(wide), product(wide), norm(wide), DPReLU(wide), nn.Hardtanh())
    inputs = odd_inputs(3, 3, 3)
    assert chains(pack(shuffled(nn.Sequential(*layers)), inputs[0]), inputs) == ["dprelu, hardtanh"]


@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.MaxPool2d(3, 1, 1)], ids=str)
def test_a_norm_and_a_clamp_behind_a_pool_are_one_step(pool: nn.Module) -> None:
    layers = (nn.Conv2d(3, WIDTH, 1, bias=False), product(), pool, norm(), nn.Hardtanh(), product())
    inputs = odd_inputs(3, 6, 7)
    packed = pack(shuffled(nn.Sequential(*layers)), inputs[0])
    chains(packed, inputs)
    torchs = [group.does() for group in packed.engine.groups if group.how == "torch"]
    assert not {"affine", "hardtanh"} & set(torchs)


def test_signals() -> None:
    layers = (BinaryConv1d(WIDTH, WIDTH, 3, method=BNN), nn.BatchNorm1d(WIDTH), DPReLU(WIDTH), nn.Hardsigmoid())
    inputs = odd_inputs(WIDTH, 9)
    assert chains(pack(shuffled(nn.Sequential(*layers)), inputs[0]), inputs) == ["dprelu, hardsigmoid"]


def test_rows_of_tokens_are_no_images() -> None:
    layers = (BinaryLinear(8, 8, method=BNN), nn.LayerNorm(8), nn.Hardtanh(), nn.ReLU())
    inputs = odd_inputs(5, 8)
    assert not chains(pack(shuffled(nn.Sequential(*layers)), inputs[0]), inputs)


def test_c_computes_them_too(tmp_path: Path) -> None:
    layers = (nn.Conv2d(3, 5, 1, bias=False), product(5), norm(5), DPReLU(5), nn.Hardsigmoid())
    x = odd_inputs(3, 4, 5)[0]
    packed = pack(shuffled(nn.Sequential(*layers)), x)
    for trace, expected in zip(run(build(packed, tmp_path), x), packed(x), strict=True):
        assert torch.allclose(trace.output, expected.flatten(), rtol=0, atol=1e-5)
