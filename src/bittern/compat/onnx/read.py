# SPDX-License-Identifier: Apache-2.0
"""Reads the operators of a file one after another: quantization is noted, real operators wait for their scale."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bittern.compat.onnx.file import Network, Operator, UnreadError
from bittern.compat.onnx.values import Integers, Pending, Real, grid
from bittern.deploy.form import Form
from bittern.deploy.front import builder
from bittern.deploy.kinds.integer.parts import LEAST, MOST, int8_form
from bittern.deploy.kinds.integer.table import every_int8
from bittern.deploy.kinds.table import KINDS
from bittern.ops.fixed_point import rounded_away

Known = Integers | Real | Pending | Tensor
REALS = ("Conv", "Gemm", "MatMul", "Add", "Sub", "Mul", "AveragePool", "GlobalAveragePool", "Softmax")
"""Operators of real numbers that compute, between DequantizeLinear and QuantizeLinear."""
MOVES = ("MaxPool", "Reshape", "Flatten", "Transpose", "Concat")
"""Operators that keep the scale of what they move, of real numbers or of int8."""
QUANTIZED = {
    "QLinearConv": ("Conv", ((0, 1, 2), (3, 4, 5)), 6, 8),
    "QLinearMatMul": ("MatMul", ((0, 1, 2), (3, 4, 5)), 6, None),
    "QLinearAdd": ("Add", ((0, 1, 2), (3, 4, 5)), 6, None),
    "QLinearMul": ("Mul", ((0, 1, 2), (3, 4, 5)), 6, None),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", ((0, 1, 2),), 3, None),
    "QLinearAveragePool": ("AveragePool", ((0, 1, 2),), 3, None),
    "QLinearSoftmax": ("Softmax", ((0, 1, 2),), 3, None),
    "QGemm": ("Gemm", ((0, 1, 2), (3, 4, 5)), 7, 6),
}
"""The real operator; where its operands lie with scale and zero point, where those of the result, where the bias."""
JOINED = "QLinearConcat"
OPERATORS = ("QuantizeLinear", "DequantizeLinear", "Relu", "Clip", *REALS, *MOVES, *QUANTIZED, JOINED)

Emit = Callable[["Reader", Pending, Integers], int]
"""(reader, what is computed, its scale and zero point) -> value of the program."""


class Reader:
    """A program in the making, and what each name stands for."""

    def __init__(self, network: Network, emitters: dict[str, Emit]) -> None:
        self.program = builder.Builder(1)
        self.emitters = emitters
        shape = (1, *network.shape)
        self.forms: dict[int, Form] = {0: int8_form(shape) if network.type == "int8" else Form(shape)}
        first: Known = Integers(0) if network.type == "int8" else Real(0)
        self.known: dict[str, Known] = {**network.constants, network.input: first}

    def add(
        self, kind: str, name: str, inputs: tuple[int, ...], tensors: dict[str, Tensor] | None = None, /, **attrs: Any
    ) -> int:
        """Append a node; returns the number of what it writes. Raises: FormatError where shapes do not fit."""
        value = self.program.add(kind, f"{len(self.program.nodes)}.{name}", inputs, dict(tensors or {}), **attrs)
        node = self.program.nodes[-1]
        own = node.named(self.program.tensors)
        self.forms[value] = KINDS[kind].shape(node, own, *(self.forms[v] for v in inputs))
        return value

    def read(self, operator: Operator) -> None:
        if not operator.inputs or len(operator.outputs) != 1:
            raise UnreadError(f"it reads {len(operator.inputs)} values and writes {len(operator.outputs)}")
        self.known[operator.outputs[0]] = self._read(operator)

    def _read(self, operator: Operator) -> Known:
        match operator.name:
            case "QuantizeLinear":
                return self._quantize(operator)
            case "DequantizeLinear":
                return self._dequantize(operator)
            case "Relu":
                return self._waiting(operator, 0).within(0.0, math.inf)
            case "Clip":
                low, high = self._limit(operator, 1, -math.inf), self._limit(operator, 2, math.inf)
                return self._waiting(operator, 0).within(low, high)
            case "QLinearConcat":
                return self._joined(operator)
            case name if name in QUANTIZED:
                return self._quantized(operator)
        operands = tuple(self._operand(operator, place) for place in range(len(operator.inputs)))
        waiting = Pending(operator, operands)
        first = operands[0]
        if operator.name in MOVES and isinstance(first, Integers) and not first.real:
            return self._made(waiting, first)
        if not all(x.real for x in operands if isinstance(x, Integers)):
            raise UnreadError("it must read what DequantizeLinear gives")
        return waiting

    def _made(self, waiting: Pending, out: Integers) -> Integers:
        """What is computed, on the grid of `out`."""
        return replace(out, value=self.emitters[waiting.operator.name](self, waiting, out), numbers=None, real=False)

    def at(self, operator: Operator, place: int) -> Known | None:
        """What an input stands for, as `Operator.read` says."""
        return operator.read(self.known, place)

    def constant(self, operator: Operator, place: int) -> Tensor | None:
        found = self.at(operator, place)
        if found is not None and not isinstance(found, Tensor):
            raise UnreadError(f"input {place} must be numbers of the file")
        return found

    def _limit(self, operator: Operator, place: int, default: float) -> float:
        found = self.constant(operator, place)
        if found is None:
            return float(operator.attrs.get(("min", "max")[place - 1], default))
        if found.numel() != 1:
            raise UnreadError("limits must be one number each")
        return float(found)

    def _grid(self, operator: Operator, place: int) -> tuple[tuple[float, ...], int]:
        """Scales and zero point, in two inputs from `place` on."""
        scale, zero = (self.constant(operator, p) for p in (place, place + 1))
        if scale is None:
            raise UnreadError("it has no scale")
        return grid(scale, zero)

    def _operand(self, operator: Operator, place: int) -> Integers | Tensor | None:
        found = self.at(operator, place)
        if isinstance(found, Pending | Real):
            raise UnreadError("it computes with real numbers; quantize what it reads, or leave the whole network real")
        return found

    def _waiting(self, operator: Operator, place: int) -> Pending:
        found = self.at(operator, place)
        if isinstance(found, Pending):
            return found
        if isinstance(found, Integers):
            return Pending(Operator("Identity", operator.inputs[:1], operator.outputs, {}), (found,))
        raise UnreadError("it must follow an operator of integers")

    def _dequantize(self, operator: Operator) -> Known:
        found = self.at(operator, 0)
        scales, zero = self._grid(operator, 1)
        axis = operator.attrs.get("axis", 1)
        if isinstance(found, Tensor) and found.dtype in (torch.int8, torch.int32):
            if len(scales) > 1 and (not -found.ndim <= axis < found.ndim or found.shape[axis] != len(scales)):
                raise UnreadError("its scales must be one for each entry of a dimension")
            return Integers(-1, found, scales, zero, axis % max(found.ndim, 1), real=True)
        if not isinstance(found, Integers) or len(scales) > 1:
            raise UnreadError("it must read int8 with one scale, or int8 or int32 numbers of the file")
        return Integers(found.value, None, scales, zero, real=True)

    def _quantize(self, operator: Operator) -> Integers:
        found = self.at(operator, 0)
        scales, zero = self._grid(operator, 1)
        out = Integers(-1, None, scales, zero)
        name = operator.outputs[0]
        if operator.attrs.get("output_dtype", 0) not in (0, 3):
            raise UnreadError("it must give int8")
        if isinstance(found, Real):
            return replace(out, value=self.add("quantize", name, (found.value,), scale=out.scale, zero=zero))
        if isinstance(found, Integers):
            found = Pending(Operator("Identity", operator.inputs[:1], operator.outputs, {}), (found,))
        if not isinstance(found, Pending):
            raise UnreadError("it must read the input of the network, or an operator of integers")
        return self._made(found, out)

    def _quantized(self, operator: Operator) -> Integers:
        real, places, result, bias = QUANTIZED[operator.name]
        operands: list[Integers | Tensor | None] = []
        for place, scale, _ in places:
            found = self._operand(operator, place)
            scales, zero = self._grid(operator, scale)
            if isinstance(found, Tensor):
                axis = 0 if real == "Conv" or operator.attrs.get("transB", 0) else found.ndim - 1
                operands.append(Integers(-1, found, scales, zero, axis))
            else:
                assert isinstance(found, Integers)
                operands.append(Integers(found.value, None, scales, zero))
        if bias is not None:
            operands.append(self.constant(operator, bias))
        scales, zero = self._grid(operator, result)
        own = Operator(real, operator.inputs, operator.outputs, operator.attrs)
        return self._made(Pending(own, tuple(operands)), Integers(-1, None, scales, zero))

    def _joined(self, operator: Operator) -> Integers:
        """QLinearConcat: the grid of the result, then each part with its own."""
        parts: list[Integers | Tensor | None] = []
        for place in range(2, len(operator.inputs), 3):
            found = self._operand(operator, place)
            if not isinstance(found, Integers):
                raise UnreadError("it must join int8 that the network computes")
            scales, zero = self._grid(operator, place + 1)
            parts.append(replace(found, scales=scales, zero=zero))
        own = Operator("Concat", operator.inputs, operator.outputs, operator.attrs)
        scales, zero = self._grid(operator, 0)
        return self._made(Pending(own, tuple(parts)), Integers(-1, None, scales, zero))

    # -- what emitters use ----------------------------------------------------------------------------------------

    def limits(self, waiting: Pending, out: Integers) -> dict[str, int]:
        """Between which integers an activation holds a result."""
        low, high = (
            bound if math.isinf(x) else int(rounded_away(torch.tensor(x / out.scale, dtype=torch.float64))) + out.zero
            for x, bound in ((waiting.low, LEAST), (waiting.high, MOST))
        )
        return {"low": min(max(low, LEAST), MOST), "high": min(max(high, LEAST), MOST)}

    def rescaled(self, value: int, x: Integers, waiting: Pending, out: Integers, name: str) -> int:
        """A value of the scale of x, in that of the result and between its limits."""
        limits = self.limits(waiting, out)
        if (x.scale, x.zero) == (out.scale, out.zero) and limits == {"low": LEAST, "high": MOST}:
            return value
        return self.add("integer_table", name, (value,), {"table": _held(x, out, limits)})


def _held(x: Integers, out: Integers, limits: dict[str, int]) -> Tensor:
    """Another scale as ONNX defines it, which rounds halves to even, in float32."""
    real = (every_int8() - x.zero).float() * torch.tensor(x.scale, dtype=torch.float32)
    whole = torch.round(real / torch.tensor(out.scale, dtype=torch.float32)) + out.zero
    return whole.clamp(limits["low"], limits["high"]).to(torch.int8)
