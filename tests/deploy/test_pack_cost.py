# SPDX-License-Identifier: Apache-2.0
"""What packing takes: passes over the weights, and memory of their size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bittern.binary import BNN
from bittern.codes import BLOCK, Code, Signs, Ternary
from bittern.deploy import PackError, pack, verify
from bittern.deploy.bit_stream import to_stream, to_streams
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.quantizer import Quantized

WIDE = 2048
"""Inputs and outputs: an eighth of the weight is more than what is looked at at a time."""


class Counted(BNN):
    """BNN that counts how often its weight is quantized."""

    calls = 0

    def weight(self, w: Tensor) -> Quantized:
        type(self).calls += 1
        return super().weight(w)


@pytest.fixture(autouse=True)
def no_calls() -> None:
    Counted.calls = 0


def model(method: Any = Counted) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [BinaryLinear(WIDE, WIDE, method=method), nn.BatchNorm1d(WIDE), nn.Hardtanh(), nn.Linear(WIDE, 10)]
    return nn.Sequential(*layers).eval()


class LargeTensors(TorchDispatchMode):
    """Counts the memories of at least so many bytes that operators make."""

    def __init__(self, nbytes: int) -> None:
        super().__init__()
        self.nbytes = nbytes
        self.made: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        known = {
            x.untyped_storage().data_ptr()
            for x in (*args, *(kwargs or {}).values())
            if type(x) in (Tensor, nn.Parameter)
        }
        for x in results if isinstance(results, (tuple, list)) else (results,):
            if type(x) is Tensor and x.device.type == "cpu":
                storage = x.untyped_storage()
                if storage.nbytes() >= self.nbytes and storage.data_ptr() not in known:
                    self.made.append(str(func))
        return results


def test_a_weight_is_quantized_once_for_the_file_and_once_for_all_comparisons() -> None:
    pack(model(), torch.randn(2, WIDE))
    assert Counted.calls == 2


def test_nothing_of_the_size_of_a_weight_is_made_but_its_quantized_values() -> None:
    network, x = model(), torch.randn(2, WIDE)
    with LargeTensors(WIDE * WIDE * 4 // 8) as large:
        pack(network, x)
    assert large.made == ["bittern.sign.default"] * 2


def test_packing_and_verifying_leave_parameters_as_and_where_they_are() -> None:
    network, x = model(), torch.randn(2, WIDE)
    before = {name: (p.data_ptr(), p.clone(), p.requires_grad) for name, p in network.named_parameters()}
    verify(pack(network, x), network, x)
    for name, p in network.named_parameters():
        place, values, gradient = before[name]
        assert (p.data_ptr(), p.requires_grad) == (place, gradient)
        assert torch.equal(p, values)
    assert "weight" not in vars(network[0].method)
    assert "accumulate" not in vars(network[0])


class Writes(nn.Module):
    """A forward that halves a weight, which no packed model does."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.layer = BinaryLinear(8, 8, method=BNN)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        weight = self.layer.weight
        (weight.data if self.how == "data" else weight.detach()).mul_(0.5)
        return self.layer(x if y is None else x + y)


@pytest.mark.parametrize("how", ["data", "detach"])
@pytest.mark.parametrize("inputs", [1, 2])
def test_a_forward_that_writes_into_a_weight_is_refused_and_leaves_it_as_it_was(how: str, inputs: int) -> None:
    network = Writes(how).eval()
    before = network.layer.weight.clone()
    with pytest.raises(PackError):
        pack(network, tuple(torch.randn(2, 8) for _ in range(inputs)))
    assert torch.equal(network.layer.weight, before)


def test_what_stands_behind_a_layer_does_not_change_the_accumulators_that_are_compared() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        BinaryConv2d(8, 8, 3, method=BNN), nn.Hardtanh(inplace=True), nn.Flatten(), nn.Linear(72, 3)
    )
    x = torch.randn(2, 8, 5, 5)
    report = verify(pack(network.eval(), x), network, x)
    assert report.exact
    assert report.layers[0].accumulators > 0


def test_a_weight_that_is_used_twice_counts_where_it_is_not_the_layers_own() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = BinaryLinear(16, 16, method=Counted)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(F.linear(x, self.layer.method.weight(-self.layer.weight).values))

    network, x = Tied().eval(), torch.randn(3, 16)
    assert verify(pack(network, x), network, x).exact


@pytest.mark.parametrize("code", [Signs(), Ternary()], ids=str)
@pytest.mark.parametrize("shape", [(3, 5), (19, 3, 3, 3), (9, BLOCK // 8 + 1), (2 * BLOCK // 64 + 3, 64)])
def test_streams_are_those_of_whole_planes(code: Code, shape: tuple[int, ...]) -> None:
    numbers = torch.tensor(list(code.values), dtype=torch.float32)[torch.randint(code.levels, shape)]
    expected = torch.stack([to_stream(plane) for plane in code.to_planes(numbers)])
    assert torch.equal(to_streams(code, numbers), expected)


@pytest.mark.parametrize("code", [Signs(), Ternary()], ids=str)
@pytest.mark.parametrize("place", [0, BLOCK - 1, BLOCK, 2 * BLOCK + 6])
def test_one_number_off_the_grid_is_found_wherever_it_stands(code: Code, place: int) -> None:
    numbers = torch.full((2 * BLOCK + 7,), float(code.high))
    assert code.contains(numbers)
    numbers[place] = 1e-9  # which vanishes beside the numbers of the grid
    assert not code.contains(numbers)
