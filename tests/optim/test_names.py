# SPDX-License-Identifier: Apache-2.0
"""Codes in a state_dict: nothing else reads them as numbers, older files still load, `to_torch` decodes them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from bittern import optim
from optim._training import parameters, relative_error, same, train

FIXTURES = Path(__file__).with_name("fixtures")
SHAPES = ((70, 90), (20,))
RULES: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9},
    "Adam": {"amsgrad": True},
    "AdamW": {},
    "NAdam": {},
    "RAdam": {},
    "Adagrad": {},
    "RMSprop": {"centered": True, "momentum": 0.9},
    "Muon": {},
    "Adamax": {},
    "Rprop": {},
}


def _trained(name: str, bits: int, steps: int = 3) -> tuple[Any, list[nn.Parameter]]:
    params = parameters(SHAPES[:1] if name == "Muon" else SHAPES)
    optimizer = getattr(optim, name)(params, lr=1e-2, state_bits=bits, min_8bit_size=100, **RULES[name])
    train(optimizer, params, steps)
    return optimizer, params


def _copies(params: list[nn.Parameter]) -> list[nn.Parameter]:
    return [nn.Parameter(p.detach().clone()) for p in params]


@contextmanager
def _process_group(folder: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("bits", [8, 4])
def test_torch_optim_raises_before_it_steps(name: str, bits: int) -> None:
    optimizer, params = _trained(name, bits)
    copies = _copies(params)
    other = getattr(torch.optim, name)(copies, lr=1e-2, **RULES[name])
    saved = copy.deepcopy(optimizer.state_dict())
    if name in ("SGD", "Muon"):
        with pytest.raises(ValueError, match="different number of parameter groups"):
            other.load_state_dict(saved)
    else:
        other.load_state_dict(saved)
        with pytest.raises(KeyError, match=r"exp_avg|sum|square_avg|prev"):
            train(other, copies, 1)
    assert all(torch.equal(p, q) for p, q in zip(params, copies, strict=True))


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("name", ["SGD", "Muon"])
def test_torch_optim_raises_among_several_processes_too(name: str, foreach: bool, tmp_path: Path) -> None:
    optimizer, params = _trained(name, 8)
    with _process_group(tmp_path):
        saved = optimizer.state_dict()
    assert len(saved["param_groups"]) == 1
    copies = _copies(params)
    extra = RULES[name] | ({"foreach": foreach} if name == "SGD" else {})
    other = getattr(torch.optim, name)(copies, lr=1e-2, **extra)
    other.load_state_dict(saved)
    with pytest.raises(RuntimeError, match=r"size of tensor|doesn't match"):
        train(other, copies, 1)
    assert torch.equal(params[0], copies[0])


def test_torch_optim_refuses_the_momentum_that_its_adafactor_lacks() -> None:
    for bits in (32, 8):
        params = parameters(SHAPES)
        optimizer = optim.Adafactor(params, momentum=0.9, state_bits=bits)
        train(optimizer, params, 2)
        with pytest.raises(ValueError, match="number of parameter groups"):
            torch.optim.Adafactor(_copies(params)).load_state_dict(optimizer.state_dict())
        with pytest.raises(ValueError, match=r"Adafactor's momentum, which torch\.optim lacks"):
            optim.to_torch(optimizer.state_dict(), params)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("bits", [8, 4, 32])
def test_to_torch_goes_on_in_torch_optim_and_comes_back(name: str, bits: int) -> None:
    optimizer, params = _trained(name, bits)
    saved = optim.to_torch(optimizer.state_dict(), optimizer.param_groups)
    copies = _copies(params)
    theirs = getattr(torch.optim, name)(copies, lr=7.0, **RULES[name])
    theirs.load_state_dict(saved)
    again = _copies(params)
    ours = getattr(optim, name)(again, lr=7.0, state_bits=bits, min_8bit_size=100, **RULES[name])
    ours.load_state_dict(copy.deepcopy(saved), requantize=True)
    start = [p.detach().clone() for p in params]
    for one, some in ((optimizer, params), (theirs, copies), (ours, again)):
        train(one, some, 1, start=3)
    there, back, here = ([p.detach() - s for p, s in zip(x, start, strict=True)] for x in (copies, again, params))
    limit = 2 * torch.finfo(torch.bfloat16).eps if name == "Muon" else 1e-5  # Muon iterates in bfloat16
    assert relative_error(there, here) < limit
    assert relative_error(back, here) < {32: limit, 8: 0.02, 4: 0.35}[bits]  # rounded to codes anew


def test_to_torch_keeps_the_order_of_memory() -> None:
    p = nn.Parameter(torch.randn(4, 16, 8, 8).contiguous(memory_format=torch.channels_last))
    for bits in (8, 4):
        optimizer = optim.Adam([p], state_bits=bits, min_8bit_size=0)
        train(optimizer, [p], 2)
        found = optim.to_torch(optimizer.state_dict(), [p])["state"][0]["exp_avg"]
        twin = optim.Adam([p], state_bits=32)
        twin.load_state_dict(optimizer.state_dict(), requantize=True)
        assert torch.equal(found, twin.state[p]["exp_avg"])


def test_to_torch_says_what_it_needs() -> None:
    optimizer, params = _trained("AdamW", 4)
    with pytest.raises(ValueError, match=r"state 0\.exp_avg holds codes that have no shape; pass .* as params"):
        optim.to_torch(optimizer.state_dict())
    with pytest.raises(ValueError, match="must be the 2 parameters of the state_dict; got 1"):
        optim.to_torch(optimizer.state_dict(), params[:1])
    with pytest.raises(ValueError, match=r"it does not fit a parameter \[20\]"):
        optim.to_torch(optimizer.state_dict(), params[::-1])
    eight, _ = _trained("AdamW", 8)
    assert same(optim.to_torch(eight.state_dict()), optim.to_torch(eight.state_dict(), eight.param_groups))


def test_old_files_load_and_go_on_as_they_did() -> None:
    files = sorted(FIXTURES.glob("*.pt"))
    assert len(files) == 21
    classes = {name.lower(): getattr(optim, name) for name in optim.__all__}
    for file in files:
        saved = torch.load(file, weights_only=True)
        name = file.stem.rstrip("0123456789")
        bits = int(file.stem.removeprefix(name))
        assert not any(key.endswith("bit") for state in saved["optimizer"]["state"].values() for key in state)
        params = [nn.Parameter(p) for p in saved["parameters"]]
        extra: dict[str, Any] = {"momentum": 0.9} if name in ("sgd", "adafactor") else {}
        extra |= {"state_rounding": "nearest"} if bits == 4 else {}
        optimizer = classes[name](params, lr=7.0, state_bits=bits, min_8bit_size=100, **extra)
        optimizer.load_state_dict(saved["optimizer"])
        train(optimizer, params, 2, start=3)
        eps = torch.finfo(torch.bfloat16 if name == "muon" else torch.float32).eps  # sums in torch's order of the day
        for p, expected in zip(params, saved["after"], strict=True):
            exact = name not in ("muon", "adafactor")
            assert torch.equal(p, expected) if exact else torch.allclose(p, expected, rtol=0, atol=4 * eps), file.name


def _model(bits: int, block: int | None = None, name: str = "AdamW") -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model = nn.Linear(100, 100)
    extra = {"momentum": 0.9} if name == "SGD" else {}
    return model, getattr(optim, name)(model.parameters(), lr=1e-3, state_bits=bits, block_size=block, **extra)


def _go(model: nn.Module, optimizer: Any, first: int, last: int) -> None:
    for step in range(first, last):
        optimizer.zero_grad()
        model(torch.randn(8, 100, generator=torch.Generator().manual_seed(step))).pow(2).mean().backward()
        optimizer.step()


def _through_a_checkpoint(folder: Path, source: tuple[nn.Module, Any], target: tuple[nn.Module, Any]) -> None:
    parts = dict(zip(("model", "optimizer"), get_state_dict(*source), strict=True))
    dcp.save(parts, checkpoint_id=folder, no_dist=True)
    loaded = dict(zip(("model", "optimizer"), get_state_dict(*target), strict=True))
    dcp.load(loaded, checkpoint_id=folder, no_dist=True)
    set_state_dict(*target, model_state_dict=loaded["model"], optim_state_dict=loaded["optimizer"])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ((8, None), (32, None), r"Missing key .*weight\.exp_avg"),
        ((4, None), (32, None), r"Missing key .*weight\.exp_avg"),
        ((32, None), (8, None), r"Missing key .*weight\.exp_avg_8bit"),
        ((8, None), (4, None), r"Missing key .*weight\.exp_avg_4bit_ratio"),
        ((4, None), (8, None), r"Missing key .*weight\.exp_avg_8bit"),
        ((8, 256), (8, 512), r"(?i)size mismatch .*weight\.exp_avg_absmax"),
    ],
)
def test_distributed_checkpoints_refuse_another_storage(
    source: tuple[int, int | None], target: tuple[int, int | None], message: str, tmp_path: Path
) -> None:
    one, other = _model(*source), _model(*target)
    _go(*one, 0, 3)
    with pytest.raises(CheckpointException, match=message):
        _through_a_checkpoint(tmp_path, one, other)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["AdamW", "SGD"])
@pytest.mark.parametrize("bits", [32, 8, 4])
def test_distributed_checkpoints_go_on_exactly(name: str, bits: int, tmp_path: Path) -> None:
    one, other = _model(bits, name=name), _model(bits, name=name)
    _go(*one, 0, 3)
    _through_a_checkpoint(tmp_path, one, other)
    _go(*one, 3, 5)
    _go(*other, 3, 5)
    assert all(torch.equal(p, q) for p, q in zip(one[0].parameters(), other[0].parameters(), strict=True))


@pytest.mark.filterwarnings("ignore")
def test_a_distributed_checkpoint_with_old_names_loads(tmp_path: Path) -> None:
    one, other = _model(8), _model(8)
    _go(*one, 0, 3)
    _, states = get_state_dict(*one)
    dcp.save({"optimizer": optim.old_names(states)}, checkpoint_id=tmp_path, no_dist=True)
    assert states["state"]["weight"].keys() >= {"exp_avg_8bit", "exp_avg_absmax"}
    _, states = get_state_dict(*other)
    loaded = {"optimizer": optim.old_names(states)}
    assert loaded["optimizer"]["state"]["weight"].keys() >= {"exp_avg", "exp_avg_absmax"}
    dcp.load(loaded, checkpoint_id=tmp_path, no_dist=True)
    other[0].load_state_dict(one[0].state_dict())
    set_state_dict(*other, model_state_dict=other[0].state_dict(), optim_state_dict=loaded["optimizer"])
    assert same(other[1].state_dict()["state"], one[1].state_dict()["state"])
