# SPDX-License-Identifier: Apache-2.0
"""Fails when an implementation that this CPU can run is never called by the agreement test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from _agreement import check, pairs
from _cases import all_cases
from bittern import _native, ops

CASES = all_cases()
KERNELS = {
    ops.sign: {"sign"},
    ops.clipped_sign: {"clipped_sign"},
    ops.clipped_levels: {"clipped_levels"},
    ops.masked_gradient: {"masked_gradient"},
    ops.approx_sign_gradient: {"approx_sign_gradient"},
    ops.error_decay_gradient: {"error_decay_gradient"},
    ops.fourier_gradient: {"fourier_gradient"},
    ops.noisy_sign: {"noisy_sign"},
    ops.adapted_sign: {"adapted_sign"},
    ops.adapted_sign_gradient: {"adapted_sign_gradient"},
    ops.standard_sign: {"standard_sign"},
    ops.standard_sign_gradient: {"standard_sign_gradient"},
    ops.shifted_sign: {"shifted_sign"},
    ops.shifted_sign_gradient: {"shifted_sign_gradient"},
    ops.scaled_gradient: {"scaled_gradient"},
    ops.mean_magnitude: {"mean_magnitude"},
    ops.window_mean: {"window_mean"},
    ops.pack_signs: {"pack_signs", "pack_planar"},
    ops.pack_levels: {"run_block_program"},
    ops.unpack_signs: {"unpack_signs"},
    ops.binary_matmul: {"prepared_bytes", "prepare_weights", "binary_matmul"},
    ops.sign_products: {"pack_signs", "pack_planar", "prepared_bytes", "prepare_weights", "binary_matmul"},
    ops.binary_conv2d: {"prepared_bytes", "prepare_weights", "binary_conv2d"},
    ops.binary_block: {"prepared_bytes", "prepare_weights", "run_block_program"},
    ops.pool_bits: {"run_block_program"},
    ops.concatenate_bits: {"run_block_program"},
    ops.optimizer_step: {"optimizer_step"},
    ops.quantize_blockwise: {"quantize_blockwise"},
    ops.dequantize_blockwise: {"dequantize_blockwise"},
    ops.quantize_4bit: {"quantize_blockwise"},
    ops.dequantize_4bit: {"dequantize_blockwise"},
    ops.linear_4bit: {"linear_4bit"},
    ops.linear_4bit_backward: {"linear_4bit_backward"},
    ops.linear_8bit: {"linear_8bit"},
    ops.dequantize_groups: {"dequantize_groups"},
    ops.linear_groups: {"linear_groups"},
    ops.multibit_quantize: {"multibit_quantize"},
    ops.multibit_matvec: {"multibit_bytes", "multibit_prepare", "multibit_matvec"},
}
"""Native functions behind each op that take an instruction set."""


def runnable() -> set[ops.Isa]:
    """Instruction sets that this CPU can run, by its features alone: what a full build must offer."""
    features = _native.cpu_features()
    mine = {"any", "arm" if features["neon"] else "x86"}
    return {isa for isa in ops.Isa if isa.processor in mine and all(features[name] for name in isa.needs)}


def test_the_build_offers_every_instruction_set_that_this_cpu_can_run() -> None:
    assert set(ops.available_isas()) >= runnable()


def test_every_op_is_listed_once_with_cases() -> None:
    assert len(set(ops.ALL)) == len(ops.ALL) == len({op.name for op in ops.ALL})
    assert set(KERNELS) == set(ops.ALL) == {case.op for case in CASES}


def test_every_native_function_with_an_instruction_set_is_known_here() -> None:
    others = {
        "step_fields",
        "step_tensor_fields",
        "count_in_cache",  # a measure for the bench, not part of an op
        "multibit_linear",  # of PreparedMultibitMatvec alone: test_multibit.py
        "integer_conv_sizes",  # steps of programs: test_integers.py
        "integer_conv_prepare",
        "integer_recurrent",  # of PreparedIntegerRecurrent alone: test_integers.py
        "integer_recurrent_bytes",
        "integer_recurrent_fields",
        "integer_recurrent_prepare",
        "flat_bits",  # plain functions, no ops: test_flat_bits.py
        "rows_of_bits",
        "shifted_sign_sums",  # a size
        "scale_whole",  # plain functions: test_scaled_whole.py
        "scaled_gradient_of_whole",
        "from_flat_bits",
        "cpu_features",
        "instruction_sets",
        "available_isas",
        "adopt_openmp",
        "pool_name",
    }
    functions = {name for name in dir(_native) if not name.startswith("_")} - others
    assert functions == set().union(*KERNELS.values())


@pytest.mark.parametrize("op", ops.ALL, ids=lambda op: op.name)
def test_the_agreement_test_calls_every_kernel(op: ops.Op, monkeypatch: pytest.MonkeyPatch) -> None:
    called: set[tuple[str, int]] = set()

    def recorded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(isa: int, *rest: Any) -> Any:
            called.add((name, int(isa)))
            return function(isa, *rest)

        return call

    for name in set().union(*KERNELS.values()):
        monkeypatch.setattr(_native, name, recorded(name, getattr(_native, name)))
    first = next(case for case in CASES if case.op is op)
    planar = next((case for case in CASES if case.op is op and case.label.endswith("planar")), first)
    for case, implementation in pairs(CASES):
        if case in (first, planar) and implementation.device == "cpu":
            check(case, implementation)
    assert called == {(name, int(isa)) for name in KERNELS[op] for isa in runnable() | set(ops.available_isas())}


def test_every_case_meets_every_implementation() -> None:
    for op in ops.ALL:
        met = {implementation.name for case, implementation in pairs(CASES) if case.op is op}
        assert met >= {f"native[{isa.label}]" for isa in runnable()}
        assert len(met) == len(op.implementations()) - 1


def test_every_case_has_a_name_of_its_own() -> None:
    assert len(CASES) == len({str(case) for case in CASES})
