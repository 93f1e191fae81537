# SPDX-License-Identifier: Apache-2.0
"""state_dict: round trips, torch.optim, other numbers of bits, bitsandbytes and torchao."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bittern import optim
from bittern.ops.codebooks import dynamic_tree
from optim._training import parameters, relative_error, same, train

TORCH_RULES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"momentum": 0.9, "dampening": 0.1}),
    ("SGD", {}),
    ("Adam", {"amsgrad": True}),
    ("AdamW", {}),
    ("NAdam", {}),
    ("RAdam", {}),
    ("Adagrad", {}),
    ("RMSprop", {"centered": True, "momentum": 0.9}),
    ("Adafactor", {}),
    ("Adadelta", {}),
    ("Adamax", {}),
    ("Rprop", {}),
    ("ASGD", {"t0": 2}),
]


def _saved(state_dict: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize(("name", "options"), TORCH_RULES)
def test_32_bit_states_go_to_torch_optim_and_back(name: str, options: dict[str, Any]) -> None:
    ours, theirs = parameters(), parameters()
    a = getattr(optim, name)(ours, lr=1e-3, state_bits=32, **options)
    b = getattr(torch.optim, name)(theirs, lr=1e-3, **options)
    train(a, ours, 5)
    train(b, theirs, 5)
    assert {i: {k: v.shape for k, v in s.items()} for i, s in a.state_dict()["state"].items() if s} == {
        i: {k: v.shape for k, v in s.items() if v is not None} for i, s in b.state_dict()["state"].items() if s
    }
    assert a.state_dict()["param_groups"][0].items() >= b.state_dict()["param_groups"][0].items()
    ours_again, theirs_again = parameters(), parameters()
    for p, q, r, s in zip(ours, theirs, ours_again, theirs_again, strict=True):
        r.data.copy_(q.data)
        s.data.copy_(p.data)
    a2 = getattr(optim, name)(ours_again, lr=7.0, state_bits=32)
    b2 = getattr(torch.optim, name)(theirs_again, lr=7.0)
    a2.load_state_dict(b.state_dict())
    b2.load_state_dict(_saved(a.state_dict()))
    for optimizer, params in ((a, ours), (b, theirs), (a2, ours_again), (b2, theirs_again)):
        train(optimizer, params, 5, start=5)
    for params in (theirs, ours_again, theirs_again):
        assert relative_error([p.detach() for p in params], [p.detach() for p in ours]) < 1e-5


CONTINUED = ["SGD", "AdamW", "Lion", "LAMB", "LARS", "AdEMAMix", "Adan", "NAdam", "Adafactor", "AdamWScheduleFree"]


@pytest.mark.parametrize("name", CONTINUED)
@pytest.mark.parametrize("bits", [32, 8, 4])
def test_a_run_continues_bit_for_bit_from_a_file(name: str, bits: int) -> None:
    options: dict[str, Any] = {"lr": 1e-3, "state_bits": bits, "min_8bit_size": 100}
    if name in ("SGD", "Adafactor"):
        options["momentum"] = 0.9
    params, again = parameters(), parameters()
    optimizer = getattr(optim, name)(params, **options)
    train(optimizer, params, 5)
    saved = _saved(optimizer.state_dict())
    for p, q in zip(params, again, strict=True):
        q.data.copy_(p.data)
    other = getattr(optim, name)(again, **options)
    other.load_state_dict(saved)
    assert same(other.state_dict()["state"], saved["state"])
    train(optimizer, params, 5, start=5)
    train(other, again, 5, start=5)
    assert all(torch.equal(p, q) for p, q in zip(params, again, strict=True))
    assert same(other.state_dict()["state"], optimizer.state_dict()["state"])


def test_states_are_plain_tensors_that_safetensors_stores(tmp_path: Path) -> None:
    params = parameters()
    optimizer = optim.AdamW(params, state_bits=4, min_8bit_size=0)
    train(optimizer, params, 2)
    state = optimizer.state_dict()
    flat = {f"{i}.{name}": value for i, values in state["state"].items() for name, value in values.items()}
    save_file(flat, tmp_path / "optimizer.safetensors")
    state["state"] = {}
    for key, value in load_file(tmp_path / "optimizer.safetensors").items():
        number, name = key.split(".")
        state["state"].setdefault(int(number), {})[name] = value
    again = optim.AdamW(parameters(), state_bits=4, min_8bit_size=0)
    again.load_state_dict(state)
    assert same(again.state_dict()["state"], optimizer.state_dict()["state"])


def test_loading_copies_and_keeps_codes_and_scales_as_they_are() -> None:
    params = [torch.nn.Parameter(p.bfloat16()) for p in parameters()]
    optimizer = optim.AdamW(params, min_8bit_size=0)
    train(optimizer, params, 2)
    other = optim.AdamW([torch.nn.Parameter(p.detach().clone()) for p in params], min_8bit_size=0)
    other.load_state_dict(optimizer.state_dict())
    first, second = optimizer.state[params[0]], other.state[other.param_groups[0]["params"][0]]
    assert second["exp_avg"].dtype == torch.uint8
    assert second["exp_avg_absmax"].dtype == torch.float32
    assert first["exp_avg"].data_ptr() != second["exp_avg"].data_ptr()


@pytest.mark.parametrize(("bits_from", "bits_to"), [(32, 8), (8, 32), (8, 4), (4, 8), (32, 4), (4, 32)])
def test_bits_change_only_on_request(bits_from: int, bits_to: int) -> None:
    params, twins = parameters(), parameters()
    a = optim.AdamW(params, lr=1e-3, state_bits=bits_from, min_8bit_size=0)
    b = optim.AdamW(twins, lr=7.0, state_bits=bits_to, min_8bit_size=0)
    train(a, params, 5)
    with pytest.raises(ValueError, match="requantize=True"):
        b.load_state_dict(a.state_dict())
    assert not b.state
    assert b.param_groups[0]["lr"] == 7.0
    b.load_state_dict(a.state_dict(), requantize=True)
    assert b.param_groups[0]["lr"] == 1e-3
    assert b.param_groups[0]["state_bits"] == bits_to
    for p, q in zip(params, twins, strict=True):
        q.data.copy_(p.data)
    start = [p.detach().clone() for p in params]
    train(a, params, 3, start=5)
    train(b, twins, 3, start=5)
    limit = 0.35 if 4 in (bits_from, bits_to) else 0.02
    moved = [[p.detach() - s for p, s in zip(x, start, strict=True)] for x in (twins, params)]
    assert relative_error(*moved) < limit


def test_another_block_size_is_a_conversion_too() -> None:
    params = parameters([(5000,)])
    a = optim.Lion(params, block_size=256)
    train(a, params, 2)
    b = optim.Lion(parameters([(5000,)]), block_size=512)
    with pytest.raises(ValueError, match="8 bits in blocks of 256, this optimizer stores 8 bits in blocks of 512"):
        b.load_state_dict(a.state_dict())
    b.load_state_dict(a.state_dict(), requantize=True)
    assert b.state_dict()["state"][0]["exp_avg_absmax"].shape == (10,)


def test_channels_last_states_load_into_another_layout() -> None:
    values = torch.randn(4, 16, 8, 8)
    p = torch.nn.Parameter(values.clone(memory_format=torch.channels_last))
    q = torch.nn.Parameter(values.clone())
    a, b = optim.Adam([p], min_8bit_size=0), optim.Adam([q], min_8bit_size=0)
    train(a, [p], 3)
    b.load_state_dict(a.state_dict())
    assert b.state[q]["exp_avg"].stride() == q.stride()
    q.data.copy_(p.data)
    train(a, [p], 3, start=3)
    train(b, [q], 3, start=3)
    assert relative_error([q.detach() - values], [p.detach() - values]) < 0.02


@pytest.mark.parametrize(
    ("name", "message"), [("SGD", "another rule"), ("Lion", "another rule"), ("Adan", "another rule")]
)
def test_states_of_another_rule_are_refused(name: str, message: str) -> None:
    params = parameters()
    source = torch.optim.Adam(params)
    train(source, params, 1)
    extra = {"momentum": 0.9} if name == "SGD" else {}
    with pytest.raises(ValueError, match=message):
        getattr(optim, name)(parameters(), state_bits=32, **extra).load_state_dict(source.state_dict())


def test_states_of_another_shape_are_refused() -> None:
    params = parameters([(5000,)])
    a = optim.Adam(params)
    train(a, params, 1)
    with pytest.raises(ValueError, match=r"does not fit a parameter \[5001\]"):
        optim.Adam(parameters([(5001,)])).load_state_dict(a.state_dict())
    with pytest.raises(ValueError, match=r"groups of \[1\] parameters, this optimizer of \[2\]"):
        optim.Adam(parameters([(1,), (2,)])).load_state_dict(a.state_dict())


def _bitsandbytes(shape: tuple[int, ...], block: int, *, states: int, nested: bool) -> dict[str, Any]:
    """One parameter's state as bitsandbytes saves it."""
    generator = torch.Generator().manual_seed(1)
    blocks = -(-torch.Size(shape).numel() // block)
    inner: dict[str, Any] = {}
    for i in range(1, states + 1):
        inner[f"state{i}"] = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        inner[f"qmap{i}"] = dynamic_tree(signed=i == 1)
        inner[f"absmax{i}"] = torch.rand(blocks, generator=generator)
    return {"step": 7, "__bnb_optimizer_quant_state__": inner} if nested else {"step": 7, **inner}


def _decoded(inner: dict[str, Any], i: int, block: int) -> Tensor:
    codes: Tensor = inner[f"state{i}"]
    scale = inner[f"absmax{i}"].repeat_interleave(block)[: codes.numel()].view(codes.shape)
    return inner[f"qmap{i}"][codes.long()] * scale


@pytest.mark.parametrize("nested", [True, False])
def test_bitsandbytes_states_load_code_for_code(nested: bool) -> None:
    saved = _bitsandbytes((70, 90), 256, states=2, nested=nested)
    group = {"lr": 0.5, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.25, "alpha": 0.0, "t_alpha": None}
    p = parameters([(70, 90)])[0]
    optimizer = optim.AdamW([p])
    optimizer.load_state_dict({"state": {0: saved}, "param_groups": [{**group, "t_beta3": None, "params": [0]}]})
    inner = saved.get("__bnb_optimizer_quant_state__", saved)
    assert torch.equal(optimizer.state[p]["exp_avg"], inner["state1"])
    assert torch.equal(optimizer.state[p]["exp_avg_sq_absmax"], inner["absmax2"])
    assert optimizer.state[p]["step"] == 7
    assert {k: optimizer.param_groups[0][k] for k in ("lr", "betas", "eps", "weight_decay")} == {
        k: group[k] for k in ("lr", "betas", "eps", "weight_decay")
    }
    train(optimizer, [p], 1)
    assert optimizer.state[p]["step"] == 8


def test_old_bitsandbytes_blocks_need_a_conversion() -> None:
    saved = _bitsandbytes((5000,), 2048, states=2, nested=False)
    state_dict = {"state": {0: saved}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0]}]}
    p = parameters([(5000,)])[0]
    with pytest.raises(ValueError, match="blocks of 2048"):
        optim.AdamW([p]).load_state_dict(state_dict)
    optimizer = optim.AdamW([p], state_bits=32)
    optimizer.load_state_dict(state_dict, requantize=True)
    assert torch.equal(optimizer.state[p]["exp_avg"], _decoded(saved, 1, 2048))
    assert torch.equal(optimizer.state[p]["exp_avg_sq"], _decoded(saved, 2, 2048))
    same_blocks = optim.AdamW([p], block_size=2048)
    same_blocks.load_state_dict(state_dict)
    assert torch.equal(same_blocks.state[p]["exp_avg"], saved["state1"])


def test_bitsandbytes_ademamix_is_unstacked() -> None:
    saved = _bitsandbytes((2, 5000), 256, states=2, nested=True)
    inner = saved["__bnb_optimizer_quant_state__"]
    inner["absmax1"], inner["absmax2"] = torch.rand(2, 20), torch.rand(20)
    inner["state2"] = inner["state2"][0].clone()
    p = parameters([(5000,)])[0]
    optimizer = optim.AdEMAMix([p])
    optimizer.load_state_dict({"state": {0: saved}, "param_groups": [{"lr": 0.1, "params": [0]}]})
    assert torch.equal(optimizer.state[p]["exp_avg_slow"], inner["state1"][1])
    assert torch.equal(optimizer.state[p]["exp_avg_slow_absmax"], inner["absmax1"][1])


def test_bitsandbytes_keeps_squares_in_the_signed_table_which_needs_a_conversion() -> None:
    saved = _bitsandbytes((5000,), 256, states=1, nested=True)
    inner = saved["__bnb_optimizer_quant_state__"]
    inner["state1"] = inner["state1"].clamp(min=127)
    state_dict = {"state": {0: saved}, "param_groups": [{"lr": 0.1, "betas": (0.95, 0.0), "params": [0]}]}
    p = parameters([(5000,)])[0]
    optimizer = optim.RMSprop([p])
    with pytest.raises(ValueError, match="another code table"):
        optimizer.load_state_dict(state_dict)
    optimizer.load_state_dict(state_dict, requantize=True)
    assert optimizer.param_groups[0]["alpha"] == 0.95
    assert "betas" not in optimizer.param_groups[0]
    with pytest.raises(ValueError, match="bitsandbytes kept 1 states"):
        optim.AdamW([p]).load_state_dict(state_dict)


@pytest.mark.parametrize("bits", [8, 4])
def test_torchao_states_load_code_for_code(bits: int) -> None:
    """Objects with the attributes of torchao's tensors are enough."""
    block = 256 if bits == 8 else 128
    shape = (64, 128)
    codes = torch.randint(0, 256, shape if bits == 8 else (64 * 128 // 2,), dtype=torch.uint8)
    unsigned = dynamic_tree(signed=False) if bits == 8 else torch.linspace(0, 1, 17)[1:]
    scale = torch.rand(64 * 128 // block)

    def state(qmap: Tensor) -> Any:
        return SimpleNamespace(codes=codes, scale=scale, qmap=qmap)

    saved = {
        "step": torch.tensor(3.0),
        "exp_avg": state(dynamic_tree(bits=bits)),
        "exp_avg_sq": state(unsigned),
    }
    p = parameters([shape])[0]
    optimizer = optim.AdamW([p], state_bits=bits, state_rounding="nearest")
    optimizer.load_state_dict({"state": {0: saved}, "param_groups": [{"lr": torch.tensor(0.1), "params": [0]}]})
    assert torch.equal(optimizer.state[p]["exp_avg"].flatten(), codes.flatten())
    assert torch.equal(optimizer.state[p]["exp_avg_sq_absmax"], scale)
    train(optimizer, [p], 1)
    assert optimizer.state[p]["step"] == 4


@pytest.mark.peers("bitsandbytes")
def test_a_checkpoint_made_by_bitsandbytes() -> None:
    import bitsandbytes as bnb

    params, again = parameters([(70, 90), (100,)]), parameters([(70, 90), (100,)])
    theirs = bnb.optim.AdamW8bit(params, lr=1e-3)
    train(theirs, params, 5)
    saved = _saved(theirs.state_dict())
    ours = optim.AdamW(again)
    ours.load_state_dict(saved)
    start = [p.detach().clone() for p in params]
    for p, q in zip(params, again, strict=True):
        q.data.copy_(p.data)
    train(theirs, params, 5, start=5)
    train(ours, again, 5, start=5)
    moved = [[p.detach() - s for p, s in zip(x, start, strict=True)] for x in (again, params)]
    assert relative_error(*moved) < 0.05


@pytest.mark.peers("torchao")
def test_a_checkpoint_made_by_torchao() -> None:
    from torchao.optim.subclass_8bit import OptimState8bit

    p = parameters([(64, 128)])[0]
    codes = torch.randint(0, 256, (64, 128), dtype=torch.uint8)
    scale = torch.rand(32)
    saved = {
        "step": torch.tensor(3.0),
        "exp_avg": OptimState8bit(codes, scale, dynamic_tree(), signed=True),
        "exp_avg_sq": OptimState8bit(codes, scale, dynamic_tree(signed=False), signed=False),
    }
    optimizer = optim.AdamW([p], state_bits=32)
    optimizer.load_state_dict({"state": {0: saved}, "param_groups": [{"params": [0]}]}, requantize=True)
    assert torch.allclose(optimizer.state[p]["exp_avg"], saved["exp_avg"].dequantize())
    assert torch.allclose(optimizer.state[p]["exp_avg_sq"], saved["exp_avg_sq"].dequantize())
