# SPDX-License-Identifier: Apache-2.0
"""Signs in front of max pools and concatenations: the same answers, and nothing but bits in between."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _bit_networks import Inception, Windows, randomize_norm
from bittern import models
from bittern.binary import BNN, DoReFa, ReActNet, XNORNet, XNORNetPlusPlus
from bittern.deploy import Packed, load, pack
from bittern.deploy.engine.engine import Engine
from bittern.deploy.engine.groups.bits import BitConcatenation, BitPool
from bittern.deploy.engine.groups.block import Block
from bittern.deploy.interpreter import Interpreter
from bittern.nn import BinaryConv2d


def with_norms(model: nn.Module) -> nn.Module:
    """Norms with weights of both signs and of zero: what follows them rises, falls or stands still."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            randomize_norm(module)
            with torch.no_grad():
                module.weight[:2] = 0.0
    return model.eval()


def packed_exactly(model: nn.Module, x: Tensor) -> Packed:
    """A packed model that the engine and a run node by node answer alike, and as the model itself does."""
    model(x)  # XNOR-Net++ makes its factors when it sees an input
    packed = pack(with_norms(model), x)
    plain = Interpreter(packed.program, packed.tensors, torch.device("cpu"))
    with torch.no_grad():
        expected = model(x)
        assert torch.equal(packed(x), expected)
        assert torch.equal(plain(x), expected)
        found, wanted = packed.accumulators(x), plain.accumulators(x)
    assert list(found) == list(wanted)
    assert all(torch.equal(found[name], wanted[name]) for name in found)
    return packed


def kinds(packed: Packed) -> list[str]:
    return [node.kind for node in packed.program.nodes]


def blocks(packed: Packed) -> list[Block]:
    return [item for item in Engine(packed.program, packed.tensors).groups if isinstance(item, Block)]


@pytest.mark.parametrize("width", [40, 64])
def test_vgg_small_keeps_to_bits_between_its_low_bit_layers(width: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 3, 20, 16)
    packed = packed_exactly(models.vgg_small(BNN, 5, input_size=16, width=width), x[..., :16, :])
    assert kinds(packed).count("pool_bits") == 2
    assert kinds(packed).count("pool") == 1  # in front of the real head
    assert kinds(packed).count("threshold") == 4
    assert [block.is_real for block in blocks(packed)] == [False] * 4 + [True]
    flips = [node for node in packed.program.nodes if node.kind == "pool_bits" and "flip" in node.tensors]
    assert len(flips) == 2


@pytest.mark.filterwarnings("ignore::bittern.ConstantInputWarning")
@pytest.mark.parametrize("method", [BNN, ReActNet, DoReFa, XNORNetPlusPlus], ids=lambda method: method.__name__)
def test_windows_of_every_kind(method: Any) -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 5, 11, 14)
    packed = packed_exactly(Windows(method), x)
    assert kinds(packed).count("pool_bits") == 3
    assert "pool" not in kinds(packed)


@pytest.mark.parametrize("planes", [1, 3])
def test_branches_side_by_side(planes: int) -> None:
    torch.manual_seed(2)
    method = ReActNet if planes == 1 else partial(DoReFa, weight_bits=2, input_bits=planes)
    packed = packed_exactly(Inception(method), torch.randn(2, 3, 9, 10))
    late = int(planes > 1)  # a maximum of planes is none of bits, and what is in front of it stays too
    assert [kinds(packed).count(kind) for kind in ("pool", "concatenate")] == [late, late]
    assert [kinds(packed).count(kind) for kind in ("pool_bits", "concatenate_bits")] == [1 - late, 3 - late]
    groups = Engine(packed.program, packed.tensors).groups
    steps = [group for group in groups if isinstance(group, (BitPool, BitConcatenation))]
    assert len(steps) == kinds(packed).count("concatenate_bits") + kinds(packed).count("pool_bits")


class Refused(nn.Module):
    """Pools and concatenations that must stay: something else reads them, a NaN may reach them, or they fall wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.a = BinaryConv2d(16, 16, 3, padding=1, method=BNN)
        self.b = BinaryConv2d(16, 16, 3, padding=1, method=BNN)
        self.c = BinaryConv2d(16, 16, 3, padding=1, method=XNORNet)
        self.d = BinaryConv2d(16, 8, 3, padding=1, method=BNN)
        self.e = BinaryConv2d(24, 8, 3, padding=1, method=BNN)
        self.f = BinaryConv2d(16, 16, 3, padding=1, method=BNN)
        self.slopes = nn.PReLU(16)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.stem(x), 2)  # of real numbers
        x = F.max_pool2d(self.a(x), 2, 1)
        y = self.b(x) + x  # reads the pool too
        y = self.f(F.max_pool2d(self.c(y), 2, 1))  # scaled by its input
        y = self.slopes(F.max_pool2d(y, 2, 1))  # slopes may change their sign in the middle
        both = torch.cat([self.d(y), y], 1)
        return (self.e(both) + both[:, :8]).flatten(1)


def test_what_must_stay_stays() -> None:
    torch.manual_seed(3)
    x = torch.randn(2, 3, 16, 16)
    model = Refused()
    with torch.no_grad():
        model.slopes.weight.normal_()
    packed = packed_exactly(model, x)
    assert kinds(packed).count("pool") == 4
    assert kinds(packed).count("concatenate") == 1
    assert not {"pool_bits", "concatenate_bits"} & set(kinds(packed))


def test_a_nan_that_a_pool_sees_stays_with_it() -> None:
    """A pool of real numbers hands a NaN on, whose sign is -1; an OR of signs would lose it."""
    model = nn.Sequential(nn.Conv2d(1, 8, 1), nn.MaxPool2d(2), BinaryConv2d(8, 4, 1, method=BNN)).eval()
    packed = pack(model, torch.ones(1, 1, 4, 4))
    x = torch.ones(1, 1, 4, 4)
    x[0, 0, 0, 0] = float("nan")
    with torch.no_grad():
        assert torch.equal(packed(x), model(x))


def test_batches_and_files(tmp_path: Any) -> None:
    torch.manual_seed(4)
    model = Inception(ReActNet)
    packed = packed_exactly(model, torch.randn(1, 3, 9, 10))
    packed.save(tmp_path / "m.bittern")
    again = load(tmp_path / "m.bittern")
    for batch in (3, 0, 1, 5):
        x = torch.randn(batch, 3, 9, 10)
        with torch.no_grad():
            assert torch.equal(again(x), model(x))
