# SPDX-License-Identifier: Apache-2.0
"""The ops as torch sees them: opcheck, torch.compile, fake and meta tensors, autocast, gradients."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from _agreement import by_op, moved, tensors
from _cases import Case, Conv, epilogue, pure_cases, words
from _step_cases import Step
from _together import run_all
from _tolerance import assert_exact
from bittern import ops
from bittern.ops import codebooks
from bittern.ops.optimizer_step import Rule

CASES = pure_cases()
EXAMPLES: list[tuple[ops.Op, tuple[Any, ...], dict[str, Any]]] = [
    (ops.sign, (torch.randn(3, 5),), {}),
    (ops.sign, (torch.randn(3, 5).t(),), {}),
    (ops.pack_signs, (torch.randn(3, 65),), {}),
    (ops.pack_signs, (torch.randn(3, 65), torch.randn(65)), {}),
    (ops.unpack_signs, (words("opcheck", 3, bits=65), 65), {"dtype": torch.bfloat16}),
    (ops.binary_matmul, (words("a", 3, bits=65), words("b", 5, bits=65), 65), {}),
    (ops.binary_matmul, (words("a", 3, bits=65), words("b", 5, bits=65), 65), {"epilogue": epilogue("rows", 5)}),
    (ops.binary_conv2d, Conv(66, 6, groups=3, folded=True).make(), {}),
    (ops.optimizer_step, Step(Rule.ADAM, 8, (300, 65)).make(), {}),
    (ops.quantize_blockwise, (torch.randn(3, 65), codebooks.dynamic_tree(), 64), {"seed": 3}),
    (ops.dequantize_blockwise, (torch.zeros(3, 65, dtype=torch.uint8), torch.ones(4), codebooks.nf4(), 64), {}),
    (ops.quantize_4bit, (torch.randn(3, 65), codebooks.nf4(), 64), {}),
    (ops.dequantize_4bit, (torch.zeros(98, dtype=torch.uint8), torch.ones(4), codebooks.nf4(), 64, [3, 65]), {}),
]


@pytest.mark.parametrize(
    ("op", "arguments", "options"), EXAMPLES, ids=lambda v: v.name if isinstance(v, ops.Op) else ""
)
def test_opcheck(op: ops.Op, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    torch.library.opcheck(op.overload, arguments, options)


# ---- torch.compile


def network(x: Tensor, threshold: Tensor, w: Tensor, rows: Tensor, kernel: Tensor) -> tuple[Tensor, ...]:
    """Every op once, with float arithmetic between that is exact in any order."""
    bits = ops.pack_signs(x * 2, threshold)
    dense = ops.binary_matmul(bits, w, 70, rows)
    back = ops.unpack_signs(bits, 70) + ops.sign(x)
    image = ops.pack_signs(back).view(1, 4, 4, 2)
    return dense * 4, back, ops.binary_conv2d(image, kernel, 70, [1, 1], [1, 1], [1, 1], pad_value=1) + 1


def network_inputs() -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(0)
    x, threshold = torch.randn((16, 70), generator=draw), torch.randn(70, generator=draw)
    return x, threshold, words("w", 9, bits=70), epilogue("rows", 9), words("kernel", 5, 3, 3, bits=70)


@pytest.mark.filterwarnings(
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"
)  # by inductor's imports
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_compiles_into_one_graph(backend: str) -> None:
    torch.compiler.reset()
    compiled = torch.compile(network, fullgraph=True, backend=backend)
    for result, expected in zip(compiled(*network_inputs()), network(*network_inputs()), strict=True):
        assert_exact(result, expected)


def test_compiles_with_sizes_that_change() -> None:
    torch.compiler.reset()

    def function(x: Tensor, w: Tensor) -> Tensor:
        return ops.binary_matmul(ops.pack_signs(x), w, 70) * 2

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=True)
    w = words("w", 9, bits=70)
    for rows in (3, 5, 8):
        x = torch.randn((rows, 70), generator=torch.Generator().manual_seed(rows))
        assert_exact(compiled(x, w), function(x, w))


def test_compiled_code_refuses_what_the_op_refuses() -> None:
    torch.compiler.reset()
    compiled = torch.compile(lambda a: ops.binary_matmul(a, a, 65), fullgraph=True, backend="eager")
    with pytest.raises(Exception, match="binary_matmul: a must have 2 words"):
        compiled(words("a", 3, bits=64))


# ---- tensors without data


@pytest.mark.parametrize("cases", [pytest.param(cases, id=name) for name, cases in by_op(CASES)])
def test_meta_tensors_get_shape_dtype_and_layout(cases: Sequence[Case]) -> None:
    run_all({str(case): partial(_check_meta, case) for case in cases})


def _check_meta(case: Case) -> None:
    arguments = case.make()
    expected = case.op.reference(*arguments)
    result = case.op(*moved(arguments, lambda x: x.to("meta")))
    for mine, theirs in zip(tensors(result), tensors(expected), strict=True):
        assert mine.device.type == "meta"
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
        assert mine.is_contiguous() or mine.stride() == theirs.stride()


LIGHT = [case for case in CASES if case.light]


@pytest.mark.parametrize("cases", [pytest.param(cases, id=name) for name, cases in by_op(LIGHT)])
def test_fake_tensors_get_shape_and_dtype(cases: Sequence[Case]) -> None:
    run_all({str(case): partial(_check_fake, case) for case in cases})


def _check_fake(case: Case) -> None:
    arguments = case.make()
    expected = case.op.reference(*arguments)
    with FakeTensorMode() as mode:
        result = case.op(*moved(arguments, mode.from_tensor))
    for mine, theirs in zip(tensors(result), tensors(expected), strict=True):
        assert mine.device.type == "cpu"
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)


# ---- autocast and gradients


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype: torch.dtype) -> None:
    expected = network(*network_inputs())
    with torch.autocast("cpu", dtype=dtype):
        results = network(*network_inputs())
    for result, value in zip(results, expected, strict=True):
        assert_exact(result, value)


def test_autocast_results_of_float_layers_are_packed() -> None:
    layer = torch.nn.Linear(5, 70)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(torch.ones(3, 5))
        assert y.dtype == torch.bfloat16
        assert_exact(ops.pack_signs(y), ops.pack_signs.reference(y.detach()))


def test_a_gradient_through_sign_is_missed_loudly() -> None:
    """Training goes through an estimator; a silent zero would hide that one is missing."""
    x = torch.randn(3, requires_grad=True)
    with pytest.warns(UserWarning, match="bittern::sign: an autograd kernel was not registered"):
        ops.sign(x).sum().backward()
    assert x.grad is None
