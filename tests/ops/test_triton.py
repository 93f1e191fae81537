# SPDX-License-Identifier: Apache-2.0
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

from _cases import interpreted_cases
from _log_cases import fewer_log_steps, fewer_random_square_steps
from _triton_extras import extras
from bittern.ops.optimizer_step import Rule

pytest.importorskip("triton")

PROGRAM = Path(__file__).parents[1] / "_run_triton.py"
LIGHT = [str(case) for case in interpreted_cases()] + ["binary_matmul-epilogue-traps"]
LIGHT += [*(extra.label for extra in extras()), "repeated steps", "norms of shards"]


LOG = [*map(str, fewer_log_steps()), *map(str, fewer_random_square_steps()), "norms of log steps"]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    return interpreted("light")


@pytest.fixture(scope="module")
def log_outcomes() -> dict[str, str]:
    return interpreted("log")


def interpreted(part: str) -> dict[str, str]:
    """Case -> what went wrong, from one process whose Triton interprets."""
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), part], env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_interpreted_kernels_equal_reference(outcomes: dict[str, str]) -> None:
    assert not _failures(outcomes)


def test_interpreted_states_of_log_codes_equal_reference(log_outcomes: dict[str, str]) -> None:
    assert not _failures(log_outcomes)


def _failures(outcomes: dict[str, str]) -> str:
    return "\n".join(f"{case}: {why}" for case, why in outcomes.items() if why)


def test_the_interpreter_ran_exactly_these_cases(outcomes: dict[str, str], log_outcomes: dict[str, str]) -> None:
    assert set(outcomes) == set(LIGHT)
    assert set(log_outcomes) == set(LOG)


FLOAT_EPILOGUE = {"epilogue": "*fp32", "out": "*fp32"}
CONV = {"x": "*i64", "w": "*i64", **FLOAT_EPILOGUE}
MASK = {"mask": "*u8"}
TILE = {"BITS": 64, "PIXELS": 32, "CHANNELS": 32}
KERNELS: list[tuple[str, str, dict[str, str], dict[str, Any]]] = [
    ("sign", "_sign_kernel", {"x": "*bf16", "out": "*bf16"}, {"BLOCK": 256}),
    (
        "clipped_sign",
        "_sign_kernel",
        dict.fromkeys(("x", "limit", "out"), "*bf16") | MASK,
        {"STRICT": True, "BYTES": 128},
    ),
    ("clipped_sign", "_levels_kernel", {"x": "*fp16", "out": "*fp16"} | MASK, {"TOP": 7.0, "BYTES": 128}),
    (
        "clipped_sign",
        "_gradient_kernel",
        dict.fromkeys(("grad", "factor", "out"), "*fp32") | MASK,
        {"BYTES": 128},
    ),
    ("sign_slopes", "_approx_kernel", dict.fromkeys(("grad", "x", "out"), "*fp32"), {"BLOCK": 1024}),
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


def ptx_of(module: str, name: str, pointers: dict[str, str], constants: dict[str, Any]) -> str:
    """PTX for an A100, from which machine code was made too; that takes the compiler only."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    kernel = getattr(import_module(module), name)
    signature = {name: pointers.get(name, "i32") for name in kernel.arg_names} | dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    compiled = compile(source, target=GPUTarget("cuda", 80, 32), options={"enable_fp_fusion": False})
    found: str = compiled.asm["ptx"]
    return found


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.mark.parametrize(("op", "name", "pointers", "constants"), KERNELS, ids=lambda v: v if type(v) is str else "")
@pytest.mark.parametrize("ones", [False, True], ids=["any size", "sizes of 1"])
def test_compiles_for_a_gpu(
    op: str, name: str, pointers: dict[str, str], constants: dict[str, Any], ones: bool
) -> None:
    kernel = getattr(import_module(f"bittern.ops.{op}.cuda"), name)
    if ones:
        sizes = [p.name for p in kernel.params if p.name in SIZES_OF_ONE and not p.do_not_specialize]
        constants = constants | dict.fromkeys(sizes, 1)
    ptx = ptx_of(f"bittern.ops.{op}.cuda", name, pointers, constants)
    if "epilogue" in pointers:
        # not the shifts and masks it is written as; a group of 1 channel needs no popcount
        assert "popc.b64" in ptx or "group_in" in constants
        assert "fma.rn.f32" in ptx
        assert "ftz" not in ptx  # subnormals are not flushed to zero


BYTES = {"n": "i64", "seed": "i64"} | dict.fromkeys(("absmax", "values", "borders"), "*fp32")
BYTES |= dict.fromkeys(("codes", "codes_of_bins"), "*u8")
STEP = {"squares": "*fp64", "bins": "*u8", "seed": "i64"}
STEP |= dict.fromkeys(("table", "tasks", "first_task", "seeds"), "*i64")
STEP |= dict.fromkeys(("scalars", "tables", "ratios"), "*fp32")


def assert_rounds_as_written(ptx: str) -> None:
    """No approximate root or quotient, no flush of subnormals, no product fused with a sum."""
    for forbidden in (".approx", ".ftz", "fma.rn.f32"):
        assert forbidden not in ptx


@pytest.mark.parametrize(
    ("dtype", "block", "nibbles", "keep", "chance", "mantissa"),
    [
        ("fp32", 256, False, True, False, 7),
        ("fp32", 256, False, False, False, 0),
        ("bf16", 64, True, False, True, 4),
        ("fp16", 4096, False, False, False, 6),
    ],
)
def test_block_codecs_compile(dtype: str, block: int, nibbles: bool, keep: bool, chance: bool, mantissa: int) -> None:
    pointers = BYTES | {"x": f"*{dtype}", "out": f"*{dtype}"}
    constants = {"BLOCK": block, "ROWS": max(1, 2048 // block), "NIBBLES": nibbles, "KEEP": keep, "CHANCE": chance}
    constants["MANTISSA"] = mantissa
    assert_rounds_as_written(ptx_of("bittern.ops.quantize_blockwise.cuda", "_quantize_kernel", pointers, constants))
    constants = {"BLOCK": block, "NIBBLES": nibbles, "TILE": 2048}
    assert_rounds_as_written(ptx_of("bittern.ops.dequantize_blockwise.cuda", "_dequantize_kernel", pointers, constants))


@pytest.mark.parametrize("rule", Rule, ids=lambda rule: rule.name.lower())
def test_rules_compile(rule: Rule) -> None:
    import triton.language as tl

    from bittern.ops.optimizer_step.cuda import rule_constants

    kinds = ((8, tl.float32, False, False), (4, tl.bfloat16, False, True), (32, tl.float16, True, False))
    bits, dtype, kahan, chance = kinds[rule % 3]
    tile = {"BLOCK": 256, "ROWS": 4, "PARAM": dtype, "GRAD": dtype}
    module = "bittern.ops.optimizer_step.kernel_cuda"
    own = {"KAHAN": kahan, "CHANCE": chance, "MANTISSA": 6, "OTHER_MANTISSA": 7, "OTHER_BINS": 3074}
    ways = ((False, bits, False), (True, bits, rule % 6 == 0), (True, 4, True))
    # each takes seconds to compile: all of Adam, one of every other rule
    for aligned, width, at_random in ways if rule == Rule.ADAM else (ways[rule // 3 % 3],):
        constants = rule_constants(rule, width, at_random) | tile | {"ALIGNED": aligned}
        ptx = ptx_of(module, "step_kernel", STEP, constants | own)
        assert_rounds_as_written(ptx)
        assert ("ld.global.v4.b32" in ptx) == ("st.global.v4.b32" in ptx) == aligned
    if rule in (Rule.LAMB, Rule.LARS):
        assert_rounds_as_written(ptx_of(module, "measure_kernel", STEP, constants))
        assert_rounds_as_written(ptx_of(module, "ratio_kernel", STEP, {"RULE": int(rule), "CHUNK": 1024}))


@pytest.mark.parametrize(("dtype", "bias"), [("fp32", True), ("bf16", False)])
def test_products_compile(dtype: str, bias: bool) -> None:
    own = dict.fromkeys(("x", "out", "bias"), f"*{dtype}")
    pointers = own | {"packed": "*u8", "absmax": "*fp32", "code": "*fp32"}
    none: dict[str, Any] = {} if bias else {"bias": None}
    tile = {"INPUTS": 16, "OUT": 64, "SUM": 64}
    module = "bittern.ops.linear_4bit.cuda"
    ptx = ptx_of(module, "_matrix_kernel", pointers, tile | none | {"BLOCK": 64, "WIDE": dtype == "fp32"})
    assert ("mma.sync" in ptx) == (dtype == "bf16")
    ptx_of(module, "_vector_kernel", pointers, {"BLOCK": 64, "OUT": 64, "SUM": 64} | none)
    pointers = own | {"codes": "*i8", "weight": "*i8"} | dict.fromkeys(("step", "scale", "extra"), "*fp32")
    ptx = ptx_of("bittern.ops.linear_8bit.cuda", "_int8_kernel", pointers, tile | none)
    assert_rounds_as_written(ptx)
    assert "mma.sync" in ptx


@pytest.mark.parametrize(
    ("dtype", "bits", "group", "zero"), [("fp32", 2, 0, None), ("bf16", 3, 128, "*u8"), ("fp16", 8, 32, "*fp32")]
)
def test_products_of_groups_compile(dtype: str, bits: int, group: int, zero: str | None) -> None:
    module, constants = "bittern.ops.linear_groups.cuda", {"BITS": bits, "GROUP": group}
    constants |= {} if zero else {"zero": None}
    pointers = {"codes": "*i32", "scale": "*fp16" if bits == 3 else "*fp32", "out": f"*{dtype}"}
    pointers |= {"zero": zero} if zero else {}
    ptx_of(module, "_vector_kernel", pointers | {"x": f"*{dtype}", "bias": f"*{dtype}"}, constants | {"TILES": 8})
    assert_rounds_as_written(ptx_of(module, "_dequantize_kernel", pointers, constants | {"OUTS": 16, "COLUMNS": 128}))
