# SPDX-License-Identifier: Apache-2.0
"""The agreement test's one step and its list, shared with the test that no implementation is missing from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch

from _cases import Case, tensors
from _together import parts
from bittern import ops

__all__ = ["by_op", "check", "marks", "moved", "pairs", "run_on", "tensors"]


def pairs(cases: list[Case]) -> list[tuple[Case, ops.Implementation]]:
    """Every case with every implementation of its op but the reference."""
    return [(case, found) for case in cases for found in case.op.implementations() if found.name != "reference"]


def by_op(cases: list[Case]) -> Iterator[tuple[str, Sequence[Case]]]:
    """Cases of one op, so many that one test takes them together, each with a name."""
    return parts(cases, lambda case: case.op.name)


def marks(implementation: ops.Implementation) -> list[pytest.MarkDecorator]:
    """Marks of a test that runs the implementation."""
    return [pytest.mark.cuda] if implementation.device == "cuda" else []


def moved(arguments: tuple[Any, ...], move: Callable[[torch.Tensor], torch.Tensor]) -> list[Any]:
    """The arguments with `move` applied to every tensor, also those in lists."""
    there = [[move(x) for x in a] if _tensors(a) else a for a in arguments]
    return [move(a) if isinstance(a, torch.Tensor) else a for a in there]


def run_on(device: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """`call` on copies on the device: its result comes back, and so does what it changed in the arguments."""

    def run(*arguments: Any) -> Any:
        there = moved(arguments, lambda x: x.to(device))
        result = call(*there)
        for mine, theirs in zip(arguments, there, strict=True):
            for x, y in zip(mine, theirs, strict=True) if _tensors(mine) else ():
                x.copy_(y)
        return result.cpu() if isinstance(result, torch.Tensor) else result and tuple(x.cpu() for x in result)

    return call if device == "cpu" else run


def _tensors(a: Any) -> bool:
    return isinstance(a, list) and all(isinstance(x, torch.Tensor) for x in a)


def check(case: Case, implementation: ops.Implementation) -> None:
    """The implementation does what the case demands of it."""
    case.demand(case.op, case.make(), run_on(implementation.device, implementation.call))
