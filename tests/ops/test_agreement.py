# SPDX-License-Identifier: Apache-2.0
"""Every implementation agrees with the reference on every case."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest
import torch

from _agreement import by_op, check, marks, pairs
from _cases import Case, all_cases, pure_cases
from _together import parts, run_all
from bittern import ops

CASES = all_cases()
PAIRS = parts(pairs(CASES), lambda pair: f"{pair[0].op.name}-{pair[1].name}")
LIGHT = [case for case in CASES if case.light]
PURE = [case for case in pure_cases() if case.light]


@pytest.mark.parametrize("some", [pytest.param(some, marks=marks(some[0][1]), id=name) for name, some in PAIRS])
def test_equals_reference(some: Sequence[tuple[Case, ops.Implementation]]) -> None:
    run_all({str(case): partial(check, case, implementation) for case, implementation in some})


@pytest.mark.parametrize("cases", [pytest.param(cases, id=name) for name, cases in by_op(LIGHT)])
def test_calling_the_op_equals_reference(cases: Sequence[Case]) -> None:
    run_all({str(case): partial(check, case, ops.Implementation("op", "cpu", case.op)) for case in cases})


@pytest.mark.parametrize("cases", [pytest.param(cases, id=name) for name, cases in by_op(PURE)])
def test_arguments_are_not_changed(cases: Sequence[Case]) -> None:
    run_all({str(case): partial(_check_arguments, case) for case in cases})


def _check_arguments(case: Case) -> None:
    used, fresh = case.make(), case.make()
    case.op(*used)
    for after, before in zip(used, fresh, strict=True):
        if isinstance(after, torch.Tensor):
            assert torch.equal(_memory(after), _memory(before))


def _memory(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(-1).view(torch.uint8)  # NaN differs from itself, its bytes do not
