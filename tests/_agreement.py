"""The agreement test's one step and its list, shared with the test that no implementation is missing from them."""

from __future__ import annotations

import pytest
import torch

from _cases import Case
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
    """The implementation equals the reference, bit for bit; an optimizer step is within the formula's roundings."""
    arguments = case.make()
    if case.op is ops.optimizer_step:
        check_step(arguments, implementation.call)
        return
    expected = case.op.reference(*arguments)
    there = [x.to(implementation.device) if isinstance(x, torch.Tensor) else x for x in arguments]
    result = implementation.call(*there)
    for mine, theirs in zip(tensors(result), tensors(expected), strict=True):
        assert mine.is_contiguous()
        assert_exact(mine.cpu(), theirs)
