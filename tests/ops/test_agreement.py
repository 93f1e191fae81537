# SPDX-License-Identifier: Apache-2.0
"""Every implementation agrees with the reference on every case."""

from __future__ import annotations

import pytest
import torch

from _agreement import check, marks, pairs
from _cases import Case, all_cases, pure_cases
from bittern import ops

CASES = all_cases()
LIGHT = pytest.mark.parametrize("case", [case for case in CASES if case.light], ids=str)


@pytest.mark.parametrize(
    ("case", "implementation"),
    [pytest.param(case, found, marks=marks(found), id=f"{case}-{found.name}") for case, found in pairs(CASES)],
)
def test_equals_reference(case: Case, implementation: ops.Implementation) -> None:
    check(case, implementation)


@LIGHT
def test_calling_the_op_equals_reference(case: Case) -> None:
    check(case, ops.Implementation("op", "cpu", case.op))


@pytest.mark.parametrize("case", [case for case in pure_cases() if case.light], ids=str)
def test_arguments_are_not_changed(case: Case) -> None:
    used, fresh = case.make(), case.make()
    case.op(*used)
    for after, before in zip(used, fresh, strict=True):
        if isinstance(after, torch.Tensor):
            assert torch.equal(_memory(after), _memory(before))


def _memory(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(-1).view(torch.uint8)  # NaN differs from itself, its bytes do not
