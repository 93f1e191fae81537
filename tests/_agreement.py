# SPDX-License-Identifier: Apache-2.0
"""The agreement test's one step and its list, shared with the test that no implementation is missing from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def moved(arguments: tuple[Any, ...], move: Callable[[torch.Tensor], torch.Tensor]) -> list[Any]:
    """The arguments with `move` applied to every tensor, also those in lists."""
    there = [[move(x) for x in a] if _tensors(a) else a for a in arguments]
    return [move(a) if isinstance(a, torch.Tensor) else a for a in there]


def moved_to(device: str, call: Callable[..., Any]) -> Callable[..., None]:
    """`call` on copies on the device; what it changed comes back into the arguments."""

    def run(*arguments: Any) -> None:
        there = moved(arguments, lambda x: x.to(device))
        call(*there)
        for mine, theirs in zip(arguments, there, strict=True):
            for x, y in zip(mine, theirs, strict=True) if _tensors(mine) else ():
                x.copy_(y)

    return call if device == "cpu" else run


def _tensors(a: Any) -> bool:
    return isinstance(a, list) and all(isinstance(x, torch.Tensor) for x in a)


def check(case: Case, implementation: ops.Implementation) -> None:
    """The implementation equals the reference, bit for bit; sums and optimizer steps are within their roundings."""
    arguments = case.make()
    if case.op is ops.optimizer_step:
        check_step(arguments, moved_to(implementation.device, implementation.call))
        return
    result = implementation.call(*moved(arguments, lambda x: x.to(implementation.device)))
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
