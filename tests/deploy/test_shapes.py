# SPDX-License-Identifier: Apache-2.0
"""The shape rules agree with what the nodes really compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from _c_networks import Everything
from bittern.deploy import pack
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.packed import Packed
from bittern.deploy.shapes import forms_of

# networks are drawn or written for their shapes here: a sign behind a ReLU is as good as any other
pytestmark = pytest.mark.filterwarnings("ignore::bittern.ConstantInputWarning")


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
