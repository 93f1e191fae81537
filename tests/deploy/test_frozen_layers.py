# SPDX-License-Identifier: Apache-2.0
"""Networks that mix signs with frozen layers of 4 and 8 bits: packed they hold codes, and multiply as in training."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from bittern import binary
from bittern.deploy import pack, verify
from bittern.deploy.errors import FormatError
from bittern.deploy.packed import from_bytes
from bittern.deploy.program import Node, Program, one_input
from bittern.deploy.validate import check_program
from bittern.nn import Linear4bit, Linear8bit, convert

FROZEN = (Linear8bit, partial(Linear8bit, threshold=0.0), Linear4bit, partial(Linear4bit, nested=True, block_size=32))


def _network(frozen: Any) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    convs = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 48, 3, padding=1), nn.BatchNorm2d(48))
    model = nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 256), nn.Linear(256, 10))
    x = torch.randn(8, 3, 10, 10)

    def rule(name: str, layer: nn.Module) -> Any:
        return frozen if isinstance(layer, nn.Linear) else binary.BNN if name == "2" else None

    return convert(model, rule, example=x).eval(), x


@pytest.mark.parametrize("frozen", FROZEN, ids=str)
def test_frozen_layers_pack_as_codes(frozen: Any) -> None:
    model, x = _network(frozen)
    packed = pack(model, x)
    again = from_bytes(packed.to_bytes())
    report = verify(again, model, [x[:1], x[:3]])
    assert report.exact
    assert report.logits_identical
    bits = 8 if isinstance(model[6], Linear8bit) else 4
    codes = [t for t in again.tensors.values() if t.dtype in (torch.int8, torch.uint8) and t.numel() > 48 * 9]
    assert sorted(t.numel() for t in codes) == [10 * 256 * bits // 8, 48 * 256 * bits // 8]


TENSORS = {
    "w8": torch.zeros(5, 4, dtype=torch.int8),
    "scale": torch.ones(5),
    "w4": torch.zeros(10, dtype=torch.uint8),
    "absmax": torch.ones(1),
    "code": torch.arange(16.0),
}
X = {"input": 0, "order": [0, 1]}
EIGHT = [X, {"tensor": "w8"}, {"tensor": "scale"}, None, 0.0]
FOUR = [X, {"tensor": "w4"}, {"tensor": "absmax"}, {"tensor": "code"}, 64, 5, None]


def _check(operator: str, arguments: list[Any]) -> None:
    roles = {value["tensor"]: value["tensor"] for value in arguments if isinstance(value, dict) and "tensor" in value}
    node = Node("aten", "a", (0,), 1, {"operator": f"bittern::{operator}.default", "arguments": arguments}, roles)
    check_program(Program((node,), one_input((4,)), 1), {name: TENSORS[name] for name in roles})


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        ("linear_8bit", [*EIGHT[:2], {"tensor": "absmax"}, *EIGHT[3:]]),
        ("linear_8bit", [EIGHT[0], {"tensor": "w4"}, *EIGHT[2:]]),
        ("linear_8bit", [*EIGHT[:3], {"tensor": "code"}, 0.0]),
        ("linear_8bit", [*EIGHT[:4], -1.0]),
        ("linear_4bit", [*FOUR[:5], 2**40, None]),
        ("linear_4bit", [*FOUR[:5], -5, None]),
        ("linear_4bit", [*FOUR[:4], 0, 5, None]),
        ("linear_4bit", [*FOUR[:3], {"tensor": "scale"}, *FOUR[4:]]),
        ("linear_4bit", [FOUR[0], {"tensor": "w8"}, *FOUR[2:]]),
        ("linear_4bit_backward", FOUR),
    ],
)
def test_codes_that_do_not_fit_are_refused_when_a_file_is_read(operator: str, arguments: list[Any]) -> None:
    _check("linear_8bit", EIGHT)
    _check("linear_4bit", FOUR)
    with pytest.raises(FormatError):
        _check(operator, arguments)
