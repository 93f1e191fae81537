# SPDX-License-Identifier: Apache-2.0
"""LSTM and GRU of integers: a step worked by hand, loops over Python integers, streaming, C code, and bad input."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from _c_integers import answers, floats_in
from _tolerance import assert_exact
from bittern.deploy import ExportError, FormatError, to_c
from bittern.deploy.kinds.kind import check_node
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.packed import Packed
from bittern.deploy.program import Input, Node, Program
from bittern.deploy.validate import check_program
from bittern.ops.fixed_point import factor_of
from bittern.ops.fixed_point_16 import logistic_table, tanh_table

CPU = torch.device("cpu")
GATES = {"integer_lstm": 4, "integer_gru": 3}
LIMIT = 2**31


def node_of(kind: str, inputs: int = 1, **attrs: Any) -> Node:
    given = {"zero": 5, "hidden_zero": -7, "integer_bits": 3, "exponent": -11, "low": -128, "high": 127} | attrs
    given = {"hidden_multiplier": 2**30 + 12345, "hidden_shift": -20 if kind == "integer_lstm" else -4} | given
    given = {"reverse": False, "state": False} | ({"clip": 0} if kind == "integer_lstm" else {}) | given
    roles = [f"{prefix}{role}" for prefix in ("", "recurrent_") for role in ("weight", "bias", "multiplier", "shift")]
    return Node(kind, "cell", tuple(range(inputs)), inputs, given, {role: role for role in roles})


def tensors_of(kind: str, features: int, hidden: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows, found = GATES[kind] * hidden, {}
    for prefix, columns in (("", features), ("recurrent_", hidden)):
        found[f"{prefix}weight"] = torch.randint(-127, 128, (rows, columns), generator=generator).to(torch.int8)
        found[f"{prefix}bias"] = torch.randint(-3000, 3000, (rows,), generator=generator, dtype=torch.int32)
        factors = [factor_of(0.3 + 0.05 * row) for row in range(rows)]
        found[f"{prefix}multiplier"] = torch.tensor([f.multiplier for f in factors], dtype=torch.int32)
        found[f"{prefix}shift"] = torch.tensor([f.shift for f in factors], dtype=torch.int32)
    return found


def run(node: Node, tensors: dict[str, Tensor], *inputs: Tensor) -> Any:
    check_node(KINDS[node.kind], node, tensors)
    return KINDS[node.kind].build(node, tensors, CPU)(*inputs)


# -- the meaning, again, in Python's integers --------------------------------------------------------------------


def away(value: Fraction) -> int:
    return (1 if value >= 0 else -1) * math.floor(abs(value) + Fraction(1, 2))


def times(x: int, multiplier: int, shift: int) -> int:
    raised = min(max(x * 2 ** max(shift, 0), -LIMIT), LIMIT - 1)
    high = math.floor(Fraction(raised * multiplier, LIMIT) + Fraction(1, 2))
    return away(Fraction(high, 2 ** max(-shift, 0)))


def held(x: int) -> int:
    return min(max(x, -32768), 32767)


class Loop:
    """One sample, step after step."""

    def __init__(self, node: Node, tensors: dict[str, Tensor]) -> None:
        self.kind, self.attrs = node.kind, dict(node.attrs)
        self.lists = {role: tensor.tolist() for role, tensor in tensors.items()}
        self.hidden = tensors["recurrent_weight"].shape[1]
        bits = self.attrs["integer_bits"]
        self.tables = [make(bits).tolist() for make in (logistic_table, tanh_table)]
        self.of_state = tanh_table(15 + self.attrs["exponent"]).tolist()

    def s(self, x: int) -> int:
        return int(self.tables[0][x + 32768])

    def t(self, x: int) -> int:
        return int(self.tables[1][x + 32768])

    def gate(self, prefix: str, row: int, x: list[int], zero: int) -> int:
        weight = self.lists[f"{prefix}weight"][row]
        total = sum(w * (v - zero) for w, v in zip(weight, x, strict=True)) + self.lists[f"{prefix}bias"][row]
        return times(total, self.lists[f"{prefix}multiplier"][row], self.lists[f"{prefix}shift"][row])

    def output(self, x: int) -> int:
        a = self.attrs
        y = times(x, a["hidden_multiplier"], a["hidden_shift"]) + a["hidden_zero"]
        return min(max(y, a["low"]), a["high"])

    def __call__(self, x: list[list[int]], h: list[int], c: list[int]) -> tuple[list[list[int]], list[int]]:
        a, n = self.attrs, self.hidden
        y: list[list[int]] = [[] for _ in x]
        for step in reversed(range(len(x))) if a["reverse"] else range(len(x)):
            new_h, new_c = [], []
            for j in range(n):
                rows = [k * n + j for k in range(GATES[self.kind])]
                given = [held(self.gate("", row, x[step], a["zero"])) for row in rows]
                own = [self.gate("recurrent_", row, h, a["hidden_zero"]) for row in rows]
                both = [held(g + o) for g, o in zip(given, own, strict=True)]
                if self.kind == "integer_lstm":
                    kept = away(Fraction(self.s(both[1]) * c[j], 2**15))
                    added = away(Fraction(self.s(both[0]) * self.t(both[2]), 2 ** (30 + a["exponent"])))
                    state = held(kept + added)
                    state = min(max(state, -a["clip"]), a["clip"]) if a["clip"] else state
                    out = self.s(both[3]) * self.of_state[state + 32768]
                else:
                    before = away(Fraction(self.s(both[0]) * held(own[2]), 2**15))
                    fresh = self.t(held(given[2] + before))
                    kept = away(Fraction(self.s(both[1]) * c[j], 2**15))
                    added = away(Fraction((32767 - self.s(both[1])) * fresh, 2 ** (30 + a["exponent"])))
                    state = out = held(kept + added)
                new_c.append(state)
                new_h.append(self.output(out))
            h, c, y[step] = new_h, new_c, new_h
        return y, c


CASES = [
    *[("integer_lstm", {"exponent": e, "integer_bits": b}) for e, b in ((-15, 3), (-11, 4), (-9, 6))],
    ("integer_lstm", {"clip": 700, "reverse": True}),
    ("integer_lstm", {"low": -20, "high": 40}),
    *[("integer_gru", {"exponent": e, "integer_bits": b}) for e, b in ((-15, 3), (-12, 5))],
    ("integer_gru", {"reverse": True, "low": -60}),
]


@pytest.mark.parametrize(("kind", "attrs"), CASES)
@pytest.mark.parametrize("initial", [False, True])
def test_every_integer(kind: str, attrs: dict[str, Any], initial: bool) -> None:
    features, hidden, steps, batch = 3, 5, 7, 4
    states = (2 if kind == "integer_lstm" else 1) * initial
    node, tensors = node_of(kind, 1 + states, state=True, **attrs), tensors_of(kind, features, hidden)
    x = torch.randint(-128, 128, (batch, steps, features), dtype=torch.int8)
    h = torch.randint(-128, 128, (batch, hidden), dtype=torch.int8)
    c = torch.randint(-32768, 32768, (batch, hidden), dtype=torch.int16)
    given = ([h, c] if kind == "integer_lstm" else [c]) if initial else []
    outputs, state = run(node, tensors, x, *given)
    assert (outputs.dtype, state.dtype) == (torch.int8, torch.int16)
    loop = Loop(node, tensors)
    for sample in range(batch):
        first = [loop.attrs["hidden_zero"]] * hidden
        if initial:
            first = h[sample].tolist() if kind == "integer_lstm" else [loop.output(v) for v in c[sample].tolist()]
        start = c[sample].tolist() if initial else [0] * hidden
        wanted = loop(x[sample].tolist(), first, start)
        assert outputs[sample].tolist() == wanted[0]
        assert state[sample].tolist() == wanted[1]
    assert_exact(run(node.with_attrs(state=False), tensors, x, *given), outputs)


def test_one_step_by_hand() -> None:
    """One input, one unit, factors of 1/2 (multiplier 2^30, shift 0), x = 64 about 0, h = 0.

    Gates are half of 64 * weight, plus 0: input 64 * 64 / 2 = 2048 = 0.5, forget 4064 = 0.992, cell 4096 would be 128,
    so 127 gives 4064 = 0.992, output 0. s(0.5) = 0.6225 = 20397, t(0.992) = 0.7586; s(0) = 16384.
    c = 2^-11 units: 20397 t(4064) / 2^19; h = M 16384 tanh(c), M = 2^-30 / (1/128) = 2^-23.
    """
    weight = torch.tensor([[64], [127], [127], [0]], dtype=torch.int8)
    tensors = {"weight": weight, "recurrent_weight": torch.zeros(4, 1, dtype=torch.int8)}
    for prefix in ("", "recurrent_"):
        tensors[f"{prefix}bias"] = torch.zeros(4, dtype=torch.int32)
        tensors[f"{prefix}multiplier"] = torch.full((4,), 2**30, dtype=torch.int32)
        tensors[f"{prefix}shift"] = torch.zeros(4, dtype=torch.int32)
    node = node_of(
        "integer_lstm", zero=0, hidden_zero=3, hidden_multiplier=2**30, hidden_shift=-22, state=True, exponent=-11
    )
    outputs, state = run(node, tensors, torch.tensor([[[64]]], dtype=torch.int8))
    cell = 1 / (1 + math.exp(-0.5)) * math.tanh(4064 / 4096)
    assert abs(int(state) - cell * 2**11) < 1
    assert int(outputs) == 3 + round(0.5 * math.tanh(cell) * 128)
    assert (int(state), int(outputs)) == (967, 31)


@pytest.mark.parametrize("kind", list(GATES))
def test_steps_in_pieces_are_the_steps_in_one(kind: str) -> None:
    tensors, x = tensors_of(kind, 4, 6), torch.randint(-128, 128, (3, 9, 4), dtype=torch.int8)
    outputs, state = run(node_of(kind, state=True), tensors, x)
    first, between = run(node_of(kind, state=True), tensors, x[:, :4])
    given = [first[:, -1], between] if kind == "integer_lstm" else [between]
    second, last = run(node_of(kind, 1 + len(given), state=True), tensors, x[:, 4:], *given)
    assert_exact(torch.cat([first, second], 1), outputs)
    assert_exact(last, state)


# -- C ---------------------------------------------------------------------------------------------------------


def packed(nodes: tuple[Node, ...], inputs: tuple[Input, ...], tensors: dict[str, Tensor]) -> Packed:
    program = Program(nodes, inputs, nodes[-1].output)
    check_program(program, tensors, 2**30)
    return Packed(program, tensors, {}, CPU)


@pytest.mark.parametrize(("kind", "attrs"), CASES)
def test_c_code_has_the_same_integers_and_no_float(kind: str, attrs: dict[str, Any], tmp_path: Path) -> None:
    tensors = tensors_of(kind, 3, 5, seed=1)
    model = packed((node_of(kind, **attrs),), (Input("x", (7, 3), "int8"),), tensors)
    x = torch.randint(-128, 128, (20, 7, 3), dtype=torch.int8)
    assert_exact(answers(model, tmp_path, x), model(x).flatten(1))
    assert floats_in(tmp_path / "net.c") == []


@pytest.mark.parametrize("kind", list(GATES))
@pytest.mark.parametrize("index", [0, 1])
def test_c_code_with_states(kind: str, index: int, tmp_path: Path) -> None:
    """States are made of the input of a program; outputs and the last state are what it answers."""
    tensors = tensors_of(kind, 3, 3, seed=2)
    start = Node("quantize_16", "c", (1,), 2, {"scale": 2.0**-11}, {})
    nodes = [Node("mean", "m", (0,), 1, {"dims": [1], "keep": False}, {}), start]
    nodes.append(Node("quantize", "h", (1,), 3, {"scale": 0.02, "zero": -7}, {}))
    nodes.append(Node("quantize", "x", (0,), 4, {"scale": 0.02, "zero": 5}, {}))
    inputs = (4, 3, 2) if kind == "integer_lstm" else (4, 2)
    nodes.append(replace(node_of(kind, state=True), inputs=inputs, output=5))
    nodes.append(Node("part", "p", (5,), 6, {"index": index}, {}))
    back = {"scale": 2.0**-11} if index else {"scale": 0.01, "zero": -7}
    nodes.append(Node("dequantize_16" if index else "dequantize", "y", (6,), 7, back, {}))
    model = packed(tuple(nodes), (Input("x", (7, 3)),), tensors)
    x = torch.randn(20, 7, 3)
    x = (x / 0.02).round() * 0.02
    found, wanted = answers(model, tmp_path, x), model(x).flatten(1)
    assert float((found != wanted).double().mean()) < 0.02  # a mean that rounds otherwise moves an initial state


def test_c_refuses_a_float_layer(tmp_path: Path) -> None:
    weights = {"weight": torch.randn(16, 3), "recurrent_weight": torch.randn(16, 4)}
    attrs = {"cell": "lstm", "reverse": False, "state": False}
    node = Node("recurrent", "rnn", (0,), 1, attrs, {role: role for role in weights})
    with pytest.raises(ExportError, match=r"'rnn' \(recurrent\): has no C code"):
        to_c(packed((node,), (Input("x", (5, 3)),), weights), tmp_path / "net.c")


# -- bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "change", "message"),
    [
        ("weight", lambda w: w[:-1], r"tensor 'weight' must be \[20, 3\]; got \[19, 3\]"),
        ("weight", lambda w: w[:, :0], "its weights must have 2 dimensions, and numbers"),
        ("recurrent_weight", lambda w: w[:, 0], "its weights must have 2 dimensions, and numbers"),
        ("recurrent_bias", lambda b: b[1:], r"tensor 'recurrent_bias' must be \[20\]; got \[19\]"),
        ("bias", lambda b: b + 2**31 - 4000, "its sums may reach [0-9]+, and int32 holds less than 2\\^31"),
        ("multiplier", lambda m: -m, "its factors must not be negative"),
        ("recurrent_shift", lambda s: s + 99, r"shifts lie in \[-31, 30\]"),
    ],
)
def test_tensors_that_do_not_fit(role: str, change: Any, message: str) -> None:
    tensors = tensors_of("integer_lstm", 3, 5)
    tensors[role] = change(tensors[role]).contiguous()
    with pytest.raises(FormatError, match=message):
        check_node(KINDS["integer_lstm"], node_of("integer_lstm"), tensors)


def test_inputs_that_do_not_fit() -> None:
    tensors = tensors_of("integer_gru", 3, 5)

    def check(*inputs: Input) -> None:
        packed((node_of("integer_gru", len(inputs)),), inputs, tensors)

    with pytest.raises(FormatError, match="it takes steps of 3 features; got"):
        check(Input("x", (7, 4), "int8"))
    with pytest.raises(FormatError, match="it takes an int8 value; got real"):
        check(Input("x", (7, 3)))
    with pytest.raises(FormatError, match="it takes an int16 value; got int8"):
        check(Input("x", (7, 3), "int8"), Input("h", (5,), "int8"))
    with pytest.raises(FormatError, match="its states have 5 numbers"):
        check(Input("x", (7, 3), "int8"), Input("h", (4,), "int16"))
    with pytest.raises(FormatError, match="attribute 'exponent' is -16"):
        check_node(KINDS["integer_gru"], node_of("integer_gru", exponent=-16), tensors)
