# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers of integers, one layer in one direction: `ops.integer_recurrent` says what they compute.

int8 [batch, steps, features] -> int8 [batch, steps, hidden]; with `state` also the int16 state behind the last step,
as the second of two results (kind `part`). Initial states are int8 and int16 (LSTM), or int16 (GRU), [batch, hidden].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form, Tensors, need
from bittern.deploy.kinds.integer.parts import (
    LEAST,
    LIMITS,
    MOST,
    SUM_BYTES,
    factor_at,
    factor_rules,
    int8_form,
    need_int8,
    zero_point,
)
from bittern.deploy.kinds.integer.wide import int16_form, need_int16
from bittern.deploy.kinds.kind import AttrRule, Kind, Step, count, flag, integer, need_shape
from bittern.deploy.program import Node
from bittern.ops.fixed_point_16 import MOST_INTEGER_BITS
from bittern.ops.integer_recurrent import CellEnds, GateProduct, IntegerCell, PreparedCell, PreparedIntegerRecurrent
from bittern.ops.integer_recurrent.arguments import GATES, GRU, LSTM

LEAST_INTEGER_BITS = 3
LEAST_EXPONENT, MOST_EXPONENT = -15, -9
"""Of a state: tanh takes 0 ... 6 integer bits of it."""
TABLES = 2**16
WORKING = 24
"""Numbers of 8 bytes a gate, of all that a step makes."""

PRODUCTS = {"": "zero", "recurrent_": "hidden_zero"}
"""How the tensors of a product begin -> the zero point of what it reads."""

ATTRS: dict[str, AttrRule] = {
    "zero": zero_point(),
    "hidden_zero": zero_point(),
    "integer_bits": count(LEAST_INTEGER_BITS, MOST_INTEGER_BITS),
    "exponent": count(LEAST_EXPONENT, MOST_EXPONENT),
    **factor_rules("hidden_"),
    **LIMITS,
    "reverse": flag(default=False),
    "state": flag(default=False),
}


def cell_name(node: Node) -> str:
    return node.kind.removeprefix("integer_")


def _check(node: Node, tensors: Tensors) -> None:
    weight, recurrent = tensors["weight"], tensors["recurrent_weight"]
    gates = GATES[cell_name(node)]
    if weight.ndim != 2 or recurrent.ndim != 2 or 0 in (*weight.shape, *recurrent.shape):
        raise FormatError(f"node {node.name!r} ({node.kind}): its weights must have 2 dimensions, and numbers")
    rows = gates * recurrent.shape[1]
    need_shape(node, "weight", weight, (rows, weight.shape[1]))
    need_shape(node, "recurrent_weight", recurrent, (rows, recurrent.shape[1]))
    for prefix, zero in PRODUCTS.items():
        for role in ("bias", "multiplier", "shift"):
            need_shape(node, prefix + role, tensors.get(prefix + role), (rows,))
        multiplier, shift = tensors[f"{prefix}multiplier"], tensors[f"{prefix}shift"]
        if bool((multiplier < 0).any()) or not bool(((shift >= -31) & (shift <= 30)).all()):
            raise FormatError(
                f"node {node.name!r} ({node.kind}): its factors must not be negative, shifts lie in [-31, 30]"
            )
        _check_sums(node, tensors[f"{prefix}weight"], tensors.get(f"{prefix}bias"), integer(node, zero))


def _check_sums(node: Node, weight: Tensor, bias: Tensor | None, zero: int) -> None:
    """Refuse what int32 might not hold, for the inputs that int8 allows."""
    sums = weight.long().abs().sum(1) * max(MOST - zero, zero - LEAST)
    if bias is not None:
        sums = sums + bias.long().abs()
    if int(sums.max()) >= 2**31:
        raise FormatError(
            f"node {node.name!r} ({node.kind}): its sums may reach {int(sums.max())}, and int32 holds less than 2^31"
        )


def cell_of(node: Node, tensors: Tensors) -> IntegerCell:
    """What a node computes, as data."""
    clip = integer(node, "clip") if "clip" in node.attrs else 0
    ends = CellEnds(
        integer_bits=integer(node, "integer_bits"),
        exponent=integer(node, "exponent"),
        factor=factor_at(node, "hidden_"),
        zero=integer(node, "hidden_zero"),
        low=integer(node, "low"),
        high=integer(node, "high"),
        clip=clip,
        reverse=bool(node.attrs["reverse"]),
    )
    return IntegerCell(cell_name(node), _product(node, tensors, ""), _product(node, tensors, "recurrent_"), ends)


def _product(node: Node, tensors: Tensors, prefix: str) -> GateProduct:
    weight, multiplier, shift = (tensors[f"{prefix}{role}"] for role in ("weight", "multiplier", "shift"))
    return GateProduct(weight, tensors.get(f"{prefix}bias"), multiplier, shift, integer(node, PRODUCTS[prefix]))


def _build(node: Node, tensors: Tensors, device: torch.device) -> Step:
    made = cell_of(node, tensors)
    cell = PreparedIntegerRecurrent(made) if device.type == "cpu" else PreparedCell(made, device)
    with_state = bool(node.attrs["state"])

    def step(x: Tensor, *initial: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        hidden, state = (None, *initial) if len(initial) == 1 else (initial or (None, None))
        found = cell(x, hidden, state)
        return found if with_state else found[0]

    return step


def _form(node: Node, tensors: Tensors, x: Form, *initial: Form) -> Form:
    need_int8(node, x, 3)
    features, hidden = tensors["weight"].shape[1], tensors["recurrent_weight"].shape[1]
    need(node, x.shape[2] == features and x.shape[1] > 0, f"it takes steps of {features} features; got {list(x.shape)}")
    for place, form in enumerate(initial):
        if len(initial) > 1 and place == 0:
            need_int8(node, form, 2)
        else:
            need_int16(node, form)
        need(node, form.shape == (1, hidden), f"its states have {hidden} numbers; got {list(form.shape)}")
    outputs, state = int8_form((1, x.shape[1], hidden)), int16_form((1, hidden))
    if not node.attrs["state"]:
        return outputs
    meta = tuple((outputs.at(index), state.at(index)) for index in range(2))
    return Form((outputs.elements + state.elements,), "tuple", meta=meta)  # type: ignore[arg-type]


def _loaded(node: Node, tensors: Tensors, form: Form) -> int:
    return SUM_BYTES * sum(tensor.numel() for tensor in tensors.values()) + 3 * 2 * TABLES


def _working(node: Node, tensors: Tensors, inputs: Sequence[Form], form: Form) -> int:
    """Sums of all steps, and what one step makes."""
    (rows, features), steps = tensors["weight"].shape, inputs[0].shape[1]
    return SUM_BYTES * (steps * (3 * features + 8 * rows) + WORKING * rows)


def _kind(cell: str, inputs: tuple[int, ...], more: dict[str, AttrRule]) -> Kind:
    roles = {f"{prefix}{role}": torch.int32 for prefix in PRODUCTS for role in ("multiplier", "shift")}
    return Kind(
        name=f"integer_{cell}",
        inputs=inputs,
        attrs=ATTRS | more,
        tensors={"weight": torch.int8, "recurrent_weight": torch.int8, **roles},
        optional={"bias": torch.int32, "recurrent_bias": torch.int32},
        check=_check,
        shape=_form,
        build=_build,
        low_bit=True,
        loaded=_loaded,
        working=_working,
    )


RECURRENT_KINDS: tuple[Kind, ...] = (
    _kind(LSTM, (1, 3), {"clip": count(0, 2**15 - 1, default=0)}),
    _kind(GRU, (1, 2), {}),
)
