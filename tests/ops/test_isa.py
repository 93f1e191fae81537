# SPDX-License-Identifier: Apache-2.0
"""Which instruction set the native kernels use: the widest, or the one that BITTERN_ISA names, or an error."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from bittern import _native, ops

DEFAULT = [isa for isa in ops.available_isas() if isa is not ops.Isa.AMX][-1]


@pytest.fixture(autouse=True)
def _choose_again() -> Iterator[None]:
    ops.chosen_isa.cache_clear()
    yield
    ops.chosen_isa.cache_clear()


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[ops.Isa]:
    """The instruction sets of the calls of `sign` so far."""
    seen: list[ops.Isa] = []
    original = _native.sign

    def sign(isa: int, *rest: Any) -> None:
        seen.append(ops.Isa(isa))
        original(isa, *rest)

    monkeypatch.setattr(_native, "sign", sign)
    return seen


@pytest.mark.parametrize("value", [None, ""])
def test_unset_takes_the_widest(value: str | None, used: list[ops.Isa], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BITTERN_ISA", raising=False)
    if value is not None:
        monkeypatch.setenv("BITTERN_ISA", value)
    ops.sign(torch.ones(3))
    assert used == [DEFAULT]


def test_untried_instruction_set_is_used_on_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    available = (ops.Isa.SCALAR, ops.Isa.AVX2, ops.Isa.AVX512BW, ops.Isa.AVX512, ops.Isa.AMX)
    monkeypatch.setattr("bittern.ops._isa.available_isas", lambda: available)
    monkeypatch.delenv("BITTERN_ISA", raising=False)
    assert ops.chosen_isa() is ops.Isa.AVX512
    ops.chosen_isa.cache_clear()
    monkeypatch.setenv("BITTERN_ISA", "amx")
    assert ops.chosen_isa() is ops.Isa.AMX


@pytest.mark.parametrize("isa", ops.available_isas(), ids=lambda isa: isa.label)
@pytest.mark.parametrize("spelling", [str.lower, str.upper])
def test_each_value_forces_its_instruction_set(
    isa: ops.Isa, spelling: Any, used: list[ops.Isa], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITTERN_ISA", spelling(isa.label))
    assert ops.sign(torch.tensor([1.0, -1.0])).tolist() == [1.0, -1.0]
    assert used == [isa]


def test_unknown_value_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITTERN_ISA", "mmx")
    labels = ", ".join(isa.label for isa in ops.available_isas())
    message = f"BITTERN_ISA: must be one of {labels} on this machine; got 'mmx'; unset it to use "
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}{DEFAULT.label}$"):
        ops.sign(torch.ones(3))


def test_instruction_set_that_the_machine_lacks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bittern.ops._isa.available_isas", lambda: (ops.Isa.SCALAR,))
    monkeypatch.setenv("BITTERN_ISA", "avx512")
    with pytest.raises(RuntimeError, match="BITTERN_ISA: must be one of scalar on this machine; got 'avx512'"):
        ops.sign(torch.ones(3))


@pytest.mark.parametrize("isa", [isa for isa in ops.Isa if isa not in ops.available_isas()] + [7, -1], ids=str)
def test_native_code_refuses_an_instruction_set_that_it_cannot_run(isa: int) -> None:
    x = torch.ones(3)
    with pytest.raises(ValueError, match="isa: "):
        _native.sign(isa, 1, x.data_ptr(), 0, 3, x.data_ptr())


def test_instruction_sets_are_listed_narrowest_first() -> None:
    assert ops.available_isas()[0] is ops.Isa.SCALAR
    assert list(ops.available_isas()) == [isa for isa in ops.Isa if isa in ops.available_isas()]


def test_numbers_that_native_code_knows() -> None:
    numbers = {"scalar": 0, "avx2": 1, "avx512": 2, "avx512bw": 3, "amx": 4, "neon": 16}
    assert {isa.label: int(isa) for isa in ops.Isa} == numbers
    assert {name: number for name, number, *_ in _native.instruction_sets()} == numbers


def test_a_set_has_the_processor_and_the_needs_of_its_kernels() -> None:
    emulated = "avx512f" not in ops.Isa.AVX512.needs  # a test build
    assert {isa.label: isa.processor for isa in ops.Isa if isa.processor != "x86"} == {"scalar": "any", "neon": "arm"}
    assert ops.Isa.SCALAR.needs == ()
    assert ops.Isa.AVX2.needs == ("avx2", "fma")
    assert ops.Isa.NEON.needs == ("neon",)
    if not emulated:
        assert ops.Isa.AVX512BW.needs == ("avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq")
        counting = ("avx512_vpopcntdq", "avx512_vbmi", "avx512_vnni")
        assert ops.Isa.AVX512.needs == (*ops.Isa.AVX512BW.needs, *counting)
        assert ops.Isa.AMX.needs == (*ops.Isa.AVX512.needs, "amx_tile", "amx_int8")
    assert ops.ON_REQUEST == (ops.Isa.AMX,)


PROGRAM = """
import torch
from bittern import ops
print(ops.chosen_isa().label, ops.sign(torch.tensor([-2.0, 0.0])).tolist())
"""


@pytest.mark.parametrize(
    ("value", "code", "said"), [("scalar", 0, "scalar [-1.0, 1.0]"), ("sse", 1, "BITTERN_ISA: must be")]
)
def test_in_a_fresh_process(value: str, code: int, said: str) -> None:
    environment = os.environ | {"BITTERN_ISA": value}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    assert said in (done.stdout if code == 0 else done.stderr.splitlines()[-1])
