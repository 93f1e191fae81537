# SPDX-License-Identifier: Apache-2.0
"""A network of integers is one native run on the CPU, with the integers of its nodes run one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bittern.deploy.engine.engine import Engine
from bittern.deploy.engine.native_run import NativeRun
from bittern.deploy.interpreter import Interpreter
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.program import Input, Node, Program
from bittern.ops.fixed_point import factor_of

CPU = torch.device("cpu")


class Chain:
    """Nodes and tensors, each node a reader of values by number."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = {}

    def add(self, kind: str, *inputs: int, tensors: dict[str, Tensor] | None = None, **attrs: Any) -> int:
        output = len(self.nodes) + 1
        names = {role: f"{output}.{role}" for role in tensors or {}}
        self.tensors |= {names[role]: tensor for role, tensor in (tensors or {}).items()}
        defaults = {key: rule.default for key, rule in KINDS[kind].attrs.items() if rule.default is not None}
        self.nodes.append(Node(kind, f"n{output}", inputs, output, {**defaults, **attrs}, names))
        return output

    def product(self, kind: str, source: int, *weight: int, **attrs: Any) -> int:
        w = torch.randint(-127, 128, weight, dtype=torch.int8)
        factors = [factor_of(0.4 / 127 / w[0].numel() ** 0.5) for _ in range(weight[0])]
        rows = {"multiplier": [m for m, _ in factors], "shift": [s for _, s in factors], "bias": [7] * weight[0]}
        tensors = {role: torch.tensor(row, dtype=torch.int32) for role, row in rows.items()}
        return self.add(kind, source, tensors={"weight": w, **tensors}, zero=-3, out_zero=5, **attrs)

    def turned(self, source: int, operator: str, numbers: list[int], dims: int = 4) -> int:
        return self.add(
            "aten", source, operator=operator, arguments=[{"input": 0, "order": list(range(dims))}, numbers]
        )


def network() -> tuple[Program, dict[str, Tensor]]:
    torch.manual_seed(0)
    c, same = Chain(), [1, 1, 1, 1]
    x = c.turned(0, "permute.default", [0, 3, 1, 2])
    x = c.product("integer_conv", x, 24, 3, 3, 3, padding=same)
    y = c.product("integer_conv", x, 24, 1, 3, 3, padding=same, groups=24, low=5)
    multiplier, shift = factor_of(0.9)
    y = c.add("requantize", y, zero=5, out_zero=-4, multiplier=multiplier, shift=shift)
    half = factor_of(0.5)
    sides = {f"{side}{name}": value for side in ("a_", "b_") for name, value in zip(half._fields, half, strict=True)}
    multiplier, shift = factor_of(2.0**-20 * 1.3)
    zeros = {"zero_a": -4, "zero_b": 5, "out_zero": -3}
    x = c.add("integer_add", y, x, multiplier=multiplier, shift=shift, **zeros, **sides)
    x = c.add("integer_max", x, kernel=[2, 2], stride=[2, 2])
    x = c.turned(x, "permute.default", [0, 2, 3, 1])
    x = c.turned(x, "reshape.default", [-1, 3 * 3 * 24])
    x = c.product("integer_linear", x, 10, 3 * 3 * 24, once=True)
    multiplier, shift = factor_of(0.07 * 2**26)
    x = c.add("integer_softmax", x, multiplier=multiplier, shift=shift, least=-200)
    return Program(tuple(c.nodes), (Input("x", (6, 6, 3), "int8"),), x), c.tensors


def test_a_network_of_integers_is_one_native_run() -> None:
    program, tensors = network()
    engine, one_by_one = Engine(program, tensors), Interpreter(program, tensors, CPU)
    for batch in (1, 3, 0):
        x = torch.randint(-128, 128, (batch, 6, 6, 3), dtype=torch.int8)
        found = engine(x)
        assert found.dtype == torch.int8
        assert torch.equal(found, one_by_one(x))
        assert torch.equal(engine(x.permute(0, 2, 1, 3)), one_by_one(x.permute(0, 2, 1, 3)))
    assert found.numel() == 0 or found.unique().numel() > 1
    with engine.schedule(3) as schedule:
        assert [type(run) for run, _ in schedule._runs] == [NativeRun]
    names = [group.does() for group in engine.groups if group.planned]
    assert names == [
        *("conv of int8", "conv of int8", "requantize of int8", "add of int8"),
        *("max pool of int8", "linear of int8", "softmax of int8"),
    ]


def real_to_real() -> tuple[Program, dict[str, Tensor]]:
    """Float images to float answers: what `bittern.quantize` makes of a network with a mean of whole images."""
    torch.manual_seed(1)
    c = Chain()
    x = c.add("quantize", 0, scale=0.02, zero=-3)
    x = c.product("integer_conv", x, 32, 3, 3, 3, padding=[1, 1, 1, 1], once=True, low=5)
    multiplier, shift = factor_of(1.7 / 30)
    x = c.add("integer_mean", x, dims=[2, 3], zero=5, out_zero=-3, multiplier=multiplier, shift=shift)
    x = c.turned(x, "reshape.default", [-1, 32, 1, 1], 2)
    x = c.product("integer_conv", x, 40, 32, 1, 1, once=True)
    x = c.turned(x, "reshape.default", [-1, 40])
    x = c.product("integer_linear", x, 10, 40, once=True)
    x = c.add("dequantize", x, scale=0.07, zero=5)
    return Program(tuple(c.nodes), (Input("x", (3, 5, 6), "float32"),), x), c.tensors


def test_floats_to_floats_are_one_native_run() -> None:
    program, tensors = real_to_real()
    engine, one_by_one = Engine(program, tensors), Interpreter(program, tensors, CPU)
    for batch in (1, 3, 0):
        x = torch.randn(batch, 3, 5, 6)
        for images in (x, x.contiguous(memory_format=torch.channels_last), x.flip(0)[:, :, :, ::1]):
            assert torch.equal(engine(images), one_by_one(images))
    with engine.schedule(3) as schedule:
        assert [type(run) for run, _ in schedule._runs] == [NativeRun]
    names = [group.does() for group in engine.groups if group.planned]
    assert names == [
        *("quantize to int8", "conv of int8", "mean of int8"),
        *("conv of int8", "linear of int8", "dequantize from int8"),
    ]


def test_an_answer_stays_when_the_next_is_computed() -> None:
    program, tensors = network()
    engine = Engine(program, tensors)
    inputs = [torch.randint(-128, 128, (1, 6, 6, 3), dtype=torch.int8) for _ in range(3)]
    first = engine(inputs[0])
    kept = first.clone()
    for x in inputs[1:]:
        engine(x)
    assert torch.equal(first, kept)


@pytest.mark.parametrize("parts", [1, 4])
def test_a_large_batch_runs_in_parts(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    program, tensors = network()
    if parts > 1:
        monkeypatch.setattr("bittern.deploy.engine.schedule.PART_BYTES", 1)
    x = torch.randint(-128, 128, (parts + 1, 6, 6, 3), dtype=torch.int8)
    assert torch.equal(Engine(program, tensors)(x), Interpreter(program, tensors, CPU)(x))
