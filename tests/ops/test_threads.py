# SPDX-License-Identifier: Apache-2.0
"""Threads change no result: torch's setting, several callers at once, a fork after use."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from _agreement import tensors
from _cases import Case, Conv, epilogue, pure_cases, values, words
from _linear_cases import Linear
from _tolerance import assert_exact
from bittern import ops


def large_cases() -> list[Case]:
    """Enough work for several tasks of every kernel."""
    matmul = (words("a", 301, bits=1000), words("b", 70, bits=1000), 1000, epilogue("rows", 70))
    conv = Conv(130, 70, (17, 19), folded=True).make()
    grouped = Conv(66, 9, (33, 31), groups=3).make()
    return [
        Case(ops.sign, "large", lambda: (values("sign", (100_001,), torch.float32),)),
        Case(ops.pack_signs, "large", lambda: (values("pack", (1001, 257), torch.float16),)),
        Case(ops.unpack_signs, "large", lambda: (words("unpack", 1001, bits=257), 257)),
        Case(ops.binary_matmul, "large", lambda: matmul),
        Case(ops.binary_conv2d, "large", lambda: conv),
        Case(ops.binary_conv2d, "grouped", lambda: grouped),
        Case(ops.linear_8bit, "large", lambda: LINEAR.int8(0.0)),
    ]


LARGE = pytest.mark.parametrize("case", large_cases(), ids=str)


@LARGE
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_number_of_threads(case: Case, threads: int) -> None:
    arguments = case.make()
    expected = case.op.reference(*arguments)
    torch.set_num_threads(threads)
    for isa in ops.available_isas():
        assert_exact(case.op.native(isa, *arguments), expected)


LINEAR = Linear(5, 333, 1000, 64, torch.float32)


@pytest.mark.parametrize("m", [1, 5, 70])
@pytest.mark.parametrize("threads", [2, 5])
def test_number_of_threads_of_sums(m: int, threads: int) -> None:
    """Each sum is one thread's, so threads change no bit of it."""
    forward, backward = replace(LINEAR, m=m).forward(), replace(LINEAR, m=m).backward()
    for isa in ops.available_isas():
        torch.set_num_threads(1)
        expected = ops.linear_4bit.native(isa, *forward), ops.linear_4bit_backward.native(isa, *backward)
        torch.set_num_threads(threads)
        assert_exact(ops.linear_4bit.native(isa, *forward), expected[0])
        assert_exact(ops.linear_4bit_backward.native(isa, *backward), expected[1])


@pytest.mark.parametrize("threads", [1, 2])
def test_several_python_threads_at_once(threads: int) -> None:
    torch.set_num_threads(threads)
    light = [case for case in pure_cases() if case.light]
    work = [(case.op, case.make()) for case in (*large_cases(), *light[::3])] * 2
    expected = [op(*arguments) for op, arguments in work]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda job: job[0](*job[1]), work))
    for result, value in zip(results, expected, strict=True):
        for mine, theirs in zip(tensors(result), tensors(value), strict=True):
            assert_exact(mine, theirs)


def test_one_prepared_layer_in_several_python_threads() -> None:
    x, w, *rest = Conv(66, 33, (9, 9), groups=3).make()
    prepared = ops.PreparedConv2d(w, *rest)
    expected = ops.binary_conv2d.reference(x, w, *rest)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(prepared, [x] * 40):
            assert_exact(result, expected)


FORK = """
import os, signal, torch
from bittern import ops

torch.set_num_threads(2)
x = torch.arange(2_000_000, dtype=torch.float32).view(2000, 1000) % 7 - 3
w = ops.pack_signs.reference(x[:65])
expected = ops.binary_matmul(ops.pack_signs(x), w, 1000).numpy().tobytes()  # starts the threads
pid = os.fork()
if pid == 0:
    signal.alarm(60)  # a child that hangs is killed
    same = ops.binary_matmul(ops.pack_signs(x), w, 1000).numpy().tobytes() == expected
    os._exit(0 if same else 3)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert status == 0, f"the child ended with {status}"
assert ops.binary_matmul(ops.pack_signs(x), w, 1000).numpy().tobytes() == expected
print("parent and child agree")
"""


def test_fork_after_use() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "parent and child agree\n"
