# SPDX-License-Identifier: Apache-2.0
"""Any function of one int8 number, by its 256 answers, such as an activation; one for all, or one a channel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from bittern.deploy.form import Form, Tensors, need
from bittern.deploy.kinds.integer.parts import INT8, LEAST, MOST, SUM_BYTES, int8_form, need_int8
from bittern.deploy.kinds.kind import Kind, Step, need_shape
from bittern.deploy.program import Node
from bittern.ops import integer_table, integer_table_reference
from bittern.ops.fixed_point import rounded_away

ENTRIES = MOST - LEAST + 1


def every_int8() -> Tensor:
    """int64 [256], -128 first: what the entries of a table are the answers to."""
    return torch.arange(LEAST, MOST + 1)


def table_of(
    function: Callable[[Tensor], Tensor],
    *,
    scale: float,
    zero: int,
    out_scale: float,
    out_zero: int,
    low: int = LEAST,
    high: int = MOST,
) -> Tensor:
    """The table, int8 [256], of an elementwise function of real numbers, scale * (x - zero) before and behind it.

    function: of float64 numbers; its answers are divided by `out_scale`, rounded to the nearest, halves away from zero,
    and held between low and high. Raises: ValueError where it answers NaN.
    """
    found = function(scale * (every_int8() - zero).double())
    if bool(found.isnan().any()):
        first = int(every_int8()[found.isnan()][0])
        raise ValueError(f"table: the function of {scale} * ({first} - {zero}) is NaN; it must be a number everywhere")
    return (rounded_away(found / out_scale) + out_zero).clamp(low, high).to(INT8)


def _form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_int8(node, x)
    return x


def _build(node: Node, tensors: Tensors, device: torch.device) -> Step:
    run = integer_table if device.type == "cpu" else integer_table_reference
    return partial(run, table=tensors["table"].to(device).contiguous())


TABLE = Kind(
    name="integer_table",
    tensors={"table": INT8},
    check=lambda node, tensors: need_shape(node, "table", tensors["table"], (ENTRIES,)),
    shape=_form,
    build=_build,
    low_bit=True,
    working=lambda node, tensors, inputs, form: 2 * SUM_BYTES * form.elements,
)
"""table[x + 128] of each number."""


def _check_channels(node: Node, tensors: Tensors) -> None:
    tables = tensors["tables"]
    need_shape(node, "tables", tables, (max(tables.shape[0], 1) if tables.ndim else 1, ENTRIES))


def _channel_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need(node, x.type in ("int8", "uint8") and x.samples_first, f"it takes int8 or uint8 [batch, ...]; got {x.type}")
    channels = tensors["tables"].shape[0]
    need(node, len(x.shape) > 1 and x.shape[1] == channels, f"it takes {channels} channels; got {list(x.shape)}")
    return int8_form(x.shape)


def _build_channels(node: Node, tensors: Tensors, device: torch.device) -> Step:
    tables = tensors["tables"].to(device)
    first = ENTRIES * torch.arange(len(tables), device=device)

    def step(x: Tensor) -> Tensor:
        least = torch.iinfo(x.dtype).min
        return tables.flatten()[x.int() + (first - least).view(-1, *(1,) * (x.ndim - 2))]

    return step


CHANNEL_TABLES = Kind(
    name="integer_tables",
    tensors={"tables": INT8},
    check=_check_channels,
    shape=_channel_form,
    build=_build_channels,
    low_bit=True,
    working=lambda node, tensors, inputs, form: 4 * SUM_BYTES * form.elements,
)
"""tables[channel, x + 128] of each number of [batch, channels, ...], of uint8 tables[channel, x]: what differs by
channel, such as PReLU, or the normalization of the bytes of images."""
