"""The agreement test's one step and its list, shared with the test that no implementation is missing from them."""

from __future__ import annotations

import pytest
import torch

from _cases import Case
from _linear_cases import check_int8, check_sum
from _step_cases import check_step
from _tolerance import assert_exact
from bittern import ops


def pairs(cases: list[Case]) -> list[tuple[Case, ops.Implementation]]:
    """Every case with every implementation of its op but the reference."""
    return [(case, found) for case in cases for found in case.op.implementations() if found.name != "reference"]


def marks(implementation: ops.Implementation) -> list[pytest.MarkDecorator]:
    """Marks of a test that runs the implementation."""
    return [pytest.mark.cuda] if implementation.device == "cuda" else []


def tensors(result: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The tensors that an op returned, one or several."""
    return result if isinstance(result, tuple) else (result,)


def check(case: Case, implementation: ops.Implementation) -> None:
    """The implementation equals the reference, bit for bit; sums and optimizer steps are within their roundings."""
    arguments = case.make()
    if case.op is ops.optimizer_step:
        check_step(arguments, implementation.call)
        return
    there = [x.to(implementation.device) if isinstance(x, torch.Tensor) else x for x in arguments]
    result = implementation.call(*there)
    if case.op in (ops.linear_4bit, ops.linear_4bit_backward):
        check_sum(result.cpu(), arguments, case.op is ops.linear_4bit_backward)
        return
    if case.op is ops.linear_8bit:
        check_int8(result.cpu(), arguments, case.op.reference)
        return
    expected = case.op.reference(*arguments)
    for mine, theirs in zip(tensors(result), tensors(expected), strict=True):
        assert mine.is_contiguous()
        assert_exact(mine.cpu(), theirs)
