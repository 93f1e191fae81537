"""The Triton kernels: by the interpreter on the CPU, and compiled for a GPU that need not be there.

On a machine with a GPU the agreement test runs them there (-m cuda).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from _cases import pure_cases

pytest.importorskip("triton")

PROGRAM = Path(__file__).parents[1] / "_run_triton.py"
LIGHT = [str(case) for case in pure_cases() if case.light and case.op.has_cuda] + ["binary_matmul-epilogue-traps"]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    """Case -> what went wrong, from one process whose Triton interprets."""
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("case", LIGHT)
def test_interpreted_kernel_equals_reference(case: str, outcomes: dict[str, str]) -> None:
    assert not outcomes[case], outcomes[case]


def test_the_interpreter_ran_exactly_these_cases(outcomes: dict[str, str]) -> None:
    assert set(outcomes) == set(LIGHT)


FLOAT_EPILOGUE = {"epilogue": "*fp32", "out": "*fp32"}
CONV = {"x": "*i64", "w": "*i64", **FLOAT_EPILOGUE}
TILE = {"BITS": 64, "PIXELS": 32, "CHANNELS": 32}
KERNELS: list[tuple[str, str, dict[str, str], dict[str, Any]]] = [
    ("sign", "_sign_kernel", {"x": "*bf16", "out": "*bf16"}, {"BLOCK": 256}),
    ("pack_signs", "_pack_kernel", {"x": "*fp16", "threshold": "*fp32", "out": "*i64"}, {"BITS": 64, "ROWS": 32}),
    ("unpack_signs", "_unpack_kernel", {"packed": "*i64", "out": "*fp64"}, {"BITS": 64, "ROWS": 32}),
    ("binary_matmul", "_matmul_kernel", {"a": "*i64", "b": "*i64", **FLOAT_EPILOGUE}, {"ROWS": 32, "COLUMNS": 32}),
    (
        "binary_matmul",
        "_matmul_kernel",
        {"a": "*i64", "b": "*i64", "out": "*i32"},
        {"epilogue": None, "ROWS": 64, "COLUMNS": 16},
    ),
    ("binary_conv2d", "_conv2d_kernel", CONV, {"PAD_VALUE": 0, "ALIGNED": False, **TILE}),
    ("binary_conv2d", "_conv2d_kernel", CONV, {"PAD_VALUE": 1, "ALIGNED": True, **TILE}),
]
SIZES_OF_ONE = ("columns", "words", "length", "k", "n", "kernel_h", "group_in", "stride_h", "out_h")
"""Triton compiles a size of 1 as a constant, unless the kernel forbids it: another program."""


@pytest.mark.parametrize(("op", "name", "pointers", "constants"), KERNELS, ids=lambda v: v if type(v) is str else "")
@pytest.mark.parametrize("ones", [False, True], ids=["any size", "sizes of 1"])
def test_compiles_for_a_gpu(
    op: str,
    name: str,
    pointers: dict[str, str],
    constants: dict[str, Any],
    ones: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To PTX and machine code for an A100, which takes the compiler only."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(import_module(f"bittern.ops.{op}.cuda"), name)
    if ones:
        sizes = [p.name for p in kernel.params if p.name in SIZES_OF_ONE and not p.do_not_specialize]
        constants = constants | dict.fromkeys(sizes, 1)
    signature = {name: pointers.get(name, "i32") for name in kernel.arg_names} | dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    ptx = compile(source, target=GPUTarget("cuda", 80, 32), options={"enable_fp_fusion": False}).asm["ptx"]
    if "epilogue" in pointers:
        # not the shifts and masks it is written as; a group of 1 channel needs no popcount
        assert "popc.b64" in ptx or "group_in" in constants
        assert "fma.rn.f32" in ptx
        assert "ftz" not in ptx  # subnormals are not flushed to zero
