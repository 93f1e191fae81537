# SPDX-License-Identifier: Apache-2.0
"""Real layers in bfloat16: an explicit choice, and whoever makes it on a CPU without such products is told."""

from __future__ import annotations

import copy
import warnings
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch
from torch import nn

from _bit_networks import randomize_norm
from _cpu import pretend
from bittern import models, ops
from bittern.binary import BNN
from bittern.deploy import Packed, load, pack, verify
from bittern.nn import BinaryLinear

SLOW = (
    r"real layers in bfloat16 are for a CPU that multiplies it .*; this one does not.*use \.with_real\(torch.float32\)"
)


def shuffle(model: nn.Module) -> nn.Module:
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            randomize_norm(module)
    return model


def packed_net() -> Packed:
    return pack(nn.Sequential(nn.Linear(8, 8), BinaryLinear(8, 4, method=BNN)), torch.randn(1, 8))


@pytest.mark.parametrize(
    ("features", "multiplies"),
    [
        ({}, False),
        ({"avx2": True, "avx512f": True, "avx512bw": True, "avx512_vnni": True}, False),
        ({"neon": True, "neon_dotprod": True}, False),
        ({"avx512f": True, "avx512_bf16": True}, True),
        ({"neon": True, "neon_bf16": True}, True),
    ],
)
def test_which_cpus_multiply_bfloat16(
    monkeypatch: pytest.MonkeyPatch, features: dict[str, bool], multiplies: bool
) -> None:
    pretend(monkeypatch, **features)
    monkeypatch.setenv("BITTERN_ISA", "scalar")  # chooses our kernels, and real layers in bfloat16 are torch's
    assert ops.multiplies_bfloat16() is multiplies


def test_bfloat16_is_told_to_be_slow_where_the_cpu_does_not_multiply_it(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = packed_net()
    pretend(monkeypatch, avx2=True)
    with pytest.warns(UserWarning, match=SLOW) as told:
        slow = packed.with_real(torch.bfloat16)
    assert [Path(warning.filename) for warning in told] == [Path(__file__)]
    assert slow.real == torch.bfloat16
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slow(torch.randn(2, 8))
        assert slow.to("cpu").real == torch.bfloat16  # told before, of this very model
        assert slow.with_real(torch.float32).real == torch.float32
        with pytest.raises(ValueError, match="compute in float32"):
            packed.with_real(torch.float16)


def test_a_model_in_bfloat16_that_arrives_at_a_slow_cpu_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, avx512_bf16=True)
    packed = packed_net().with_real(torch.bfloat16)
    sent = bytes(ForkingPickler.dumps(packed))
    assert copy.copy(packed).real == torch.bfloat16
    pretend(monkeypatch, avx2=True)
    with pytest.warns(UserWarning, match=SLOW):
        arrived = ForkingPickler.loads(sent)
    x = torch.randn(2, 8)
    assert arrived.real == torch.bfloat16
    assert torch.equal(arrived(x), packed(x))


def test_a_file_holds_no_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, avx512_bf16=True)
    packed_net().with_real(torch.bfloat16).save(tmp_path / "m.safetensors")
    pretend(monkeypatch)
    assert load(tmp_path / "m.safetensors").real == torch.float32


def test_real_layers_in_bfloat16_are_an_explicit_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, avx512_bf16=True)
    torch.manual_seed(0)
    model = shuffle(models.resnet20_cifar(BNN, 5))
    x = torch.randn(4, 3, 32, 32)
    packed = pack(model, x)
    fast = packed.with_real(torch.bfloat16)
    report = verify(fast, model, x)
    assert packed.real == torch.float32
    assert verify(packed, model, x).logits_identical
    assert not report.logits_identical
    assert 0 < report.max_difference < float("inf")
    assert torch.equal(fast.with_real(torch.float32)(x), packed(x))
    with pytest.raises(ValueError, match=r"float32, or on the CPU in bfloat16; got torch\.float16"):
        packed.with_real(torch.float16)
