# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bittern import __main__ as diagnosis
from bittern import _native, ops


@pytest.fixture(autouse=True)
def _choose_afresh() -> Iterator[None]:
    """The instruction set is chosen once per process; these tests need it chosen again, and as it was afterwards."""
    ops.chosen_isa.cache_clear()
    yield
    ops.chosen_isa.cache_clear()


def test_every_op_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("BITTERN_ISA", raising=False)
    assert diagnosis.main([]) == 0
    text = capsys.readouterr().out
    widest = [isa for isa in ops.available_isas() if isa not in ops.ON_REQUEST][-1].label
    for op in ops.ALL:
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [op.name]]
        assert f"native[{widest}]" in line
        assert "widest" in line
    assert text.count("CUDA  ") == len(ops.ALL)
    for isa in ops.Isa:
        assert any(line.split()[:1] == [isa.label] for line in text.splitlines())


def test_forced_instruction_set_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITTERN_ISA", "scalar")
    found = diagnosis.diagnose()
    assert {(state.cpu, state.cpu_why) for state in found.ops} == {("native[scalar]", "forced by BITTERN_ISA=scalar")}
    assert found.machine.isa == "scalar"


def test_json_has_the_same(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("BITTERN_ISA", raising=False)
    assert diagnosis.main(["--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [state["op"] for state in data["ops"]] == [op.name for op in ops.ALL]
    assert [state["isa"] for state in data["isas"]] == [isa.label for isa in ops.Isa]
    assert {state["isa"] for state in data["isas"] if state["available"]} == set(_native.available_isas())
    assert data["machine"]["threads"] >= 1
    assert data["pool"] == _native.pool_name()


@pytest.mark.parametrize(
    ("missing", "why"),
    [("avx512_vpopcntdq", "this CPU lacks avx512_vpopcntdq"), (None, "not compiled into this build")],
)
def test_unavailable_instruction_set_says_why(monkeypatch: pytest.MonkeyPatch, missing: str | None, why: str) -> None:
    features = {name: name != missing for name in _native.cpu_features()}
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(ops, "available_isas", lambda: (ops.Isa.SCALAR,))
    assert diagnosis._isa_state(ops.Isa.AVX512, features).why == why
    assert diagnosis._isa_state(ops.Isa.SCALAR, features).available


def test_instruction_set_on_request_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "available_isas", lambda: (ops.Isa.SCALAR, ops.Isa.AVX512, ops.Isa.AMX))
    monkeypatch.delenv("BITTERN_ISA", raising=False)
    assert diagnosis._isa_state(ops.Isa.AMX, {}).why.endswith("; used only where BITTERN_ISA asks for it")
    assert diagnosis._why_chosen().endswith("this CPU have, amx left out")


@pytest.mark.parametrize(
    ("machine", "foreign", "why"),
    [
        ("x86_64", {ops.Isa.NEON}, "made for ARM processors"),
        ("aarch64", {ops.Isa.AVX2, ops.Isa.AVX512BW, ops.Isa.AVX512, ops.Isa.AMX}, "made for x86 processors"),
    ],
)
def test_instruction_sets_of_another_processor(
    monkeypatch: pytest.MonkeyPatch, machine: str, foreign: set[ops.Isa], why: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(ops, "available_isas", lambda: (ops.Isa.SCALAR,))
    features = dict.fromkeys(_native.cpu_features(), False)
    assert {isa for isa in ops.Isa if diagnosis._isa_state(isa, features).why == why} == foreign
    lacking = diagnosis.diagnose().missing_features
    assert not set(lacking) & {name for isa in foreign for name in isa.needs}


def test_needs_name_features_that_the_extension_reports() -> None:
    features = _native.cpu_features()
    for isa in ops.Isa:
        assert set(isa.needs) <= set(features)
        if isa in ops.available_isas():
            assert all(features[name] for name in isa.needs)


def test_cuda_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis.torch.version, "cuda", None)
    assert diagnosis._cuda() == (None, "this torch was built without CUDA")
    monkeypatch.setattr(diagnosis.torch.version, "cuda", "13.0")
    monkeypatch.setattr(diagnosis.torch.cuda, "is_available", lambda: False)
    assert diagnosis._cuda() == (None, "torch sees no CUDA device")
    monkeypatch.setattr(diagnosis.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(diagnosis.torch.cuda, "get_device_name", lambda: "Fast GPU")
    monkeypatch.setattr(diagnosis.importlib.util, "find_spec", lambda name: None)
    assert diagnosis._cuda() == (None, "Triton is missing; pip install 'bittern[gpu]'")
    monkeypatch.setattr(diagnosis.importlib.util, "find_spec", lambda name: object())
    assert diagnosis._cuda() == ("triton", "the only implementation for CUDA tensors (Fast GPU)")


@pytest.mark.parametrize("value", ["avx9", "neon"])
def test_impossible_instruction_set_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.setenv("BITTERN_ISA", value)
    assert diagnosis.main(["--json"]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("bittern: BITTERN_ISA: must be one of scalar")
    assert error.count("\n") == 1


def test_as_a_command() -> None:
    environment = {**os.environ, "BITTERN_ISA": "avx9"}
    done = subprocess.run([sys.executable, "-m", "bittern"], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("bittern: BITTERN_ISA")
    assert "Traceback" not in done.stderr
