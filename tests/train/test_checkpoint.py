# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import resource
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from bittern.data import ImageData
from bittern.train import CheckpointError, Recipe, load_weights, train
from bittern.train.checkpoint import FILE_NAME, RunState, restore_checkpoint, save_checkpoint
from bittern.train.history import Epoch

CPU = torch.device("cpu")
IDENTITY = {"seed": 0, "data": "some"}


def model(width: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width))


def stepped(kind: Any = torch.optim.AdamW) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    net = model()
    optimizer: torch.optim.Optimizer = kind(net.parameters(), lr=0.1)
    net(torch.randn(8, 4)).sum().backward()
    optimizer.step()
    return net, optimizer


STATE = RunState(5, 1.25, 7, 12, 0.5, [Epoch(1, 3, 0.1, 2.0, 0.5, 3.0, 0.25, 9.0)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / FILE_NAME, *stepped(), STATE, IDENTITY, CPU)
    return tmp_path / FILE_NAME


def test_everything_comes_back(tmp_path: Path) -> None:
    net, optimizer = stepped()
    torch.manual_seed(11)
    save_checkpoint(tmp_path / "c", net, optimizer, STATE, IDENTITY, CPU)
    drawn = torch.rand(3)
    other = model()
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=0.1)
    assert restore_checkpoint(tmp_path / "c", other, other_optimizer, IDENTITY, CPU) == STATE
    assert torch.equal(torch.rand(3), drawn)
    for name, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
        assert value.dtype == other.state_dict()[name].dtype
    for parameter, twin in zip(net.parameters(), other.parameters(), strict=True):
        ours, theirs = optimizer.state[parameter], other_optimizer.state[twin]
        assert set(ours) == set(theirs) == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert other_optimizer.param_groups[0]["betas"] == (0.9, 0.999)


def test_training_after_a_restore_leaves_the_file_alone(path: Path) -> None:
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    before = path.read_bytes()
    restore_checkpoint(path, net, optimizer, IDENTITY, CPU)
    net(torch.randn(8, 4)).sum().backward()
    optimizer.step()
    assert path.read_bytes() == before


def test_tied_weights_and_every_dtype(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.ones(2))
            self.b = self.a
            for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.int8, torch.bool, torch.uint8):
                self.register_buffer(f"of_{str(dtype)[6:]}", torch.ones(3, dtype=dtype))
            self.register_buffer("empty", torch.ones(0, 4))
            self.register_buffer("strided", torch.arange(6.0).view(2, 3).t())

    first, second = Odd(), Odd()
    with torch.no_grad():
        first.a.mul_(3)
    save_checkpoint(tmp_path / "c", first, torch.optim.SGD(first.parameters(), lr=1), RunState(), {}, CPU)
    load_weights(second, tmp_path / "c")
    assert second.a is second.b
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())


def test_the_file_is_plain_safetensors_with_json(path: Path) -> None:
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    run = json.loads(header["__metadata__"]["bittern_checkpoint"])
    assert run["version"] == 1
    assert run["identity"] == IDENTITY
    assert {"model/0.weight", "optimizer/exp_avg/0.weight", "rng/cpu"} <= set(header)


def test_differences_between_models_are_listed(path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"another model: 0.weight: float32 \[3, 4\] in the checkpoint, .*\[5, 4\]"
    ):
        load_weights(model(width=5), path)
    with pytest.raises(CheckpointError, match=r"another model: 2.weight: not in the checkpoint"):
        load_weights(model().append(nn.Linear(3, 3)), path)
    with pytest.raises(CheckpointError, match=r"another model: (1\.\w+: not in the model; ){5}and 2 more"):
        load_weights(nn.Sequential(nn.Linear(4, 9)), path)
    with pytest.raises(CheckpointError, match=r"0.weight: float32 .*float64"):
        load_weights(model().double(), path)


def test_a_refused_file_changes_nothing(path: Path) -> None:
    net = model()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    torch.manual_seed(3)
    random = torch.get_rng_state()
    with pytest.raises(CheckpointError, match="another run: data was 'some', is 'other'"):
        restore_checkpoint(path, net, optimizer, IDENTITY | {"data": "other"}, CPU)
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(CheckpointError, match="another optimizer"):
        restore_checkpoint(path, net, sgd, IDENTITY, CPU)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert not optimizer.state


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load_weights(model(), tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load_weights(model(), tmp_path)
    for content in (b"", b"\x80\x04K\x01.", save({"x": torch.ones(2)}), save({}, {"bittern_checkpoint": "[]"})):
        (tmp_path / "foreign").write_bytes(content)
        with pytest.raises(CheckpointError, match="not a Bittern training checkpoint"):
            load_weights(model(), tmp_path / "foreign")


def test_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("bittern.train.checkpoint.VERSION", 2)
        save_checkpoint(tmp_path / "c", *stepped(), STATE, IDENTITY, CPU)
    with pytest.raises(CheckpointError, match="version 2; this Bittern reads 1"):
        load_weights(model(), tmp_path / "c")


def test_a_flipped_bit_in_the_weights_is_noticed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="checksum"):
        load_weights(model(), path)


def test_a_header_that_promises_terabytes_is_refused_without_allocating(path: Path) -> None:
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header["model/0.weight"] |= {"shape": [2**40], "data_offsets": [0, 2**42]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError):
        load_weights(model(), path)
    path.write_bytes(struct.pack("<Q", 2**62) + data[8:])
    with pytest.raises(CheckpointError):
        load_weights(model(), path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


def test_state_that_would_need_pickle(tmp_path: Path) -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> object:
            return {"a": 1}

    extra = Extra(2, 2)
    with pytest.raises(TypeError, match=r"_extra_state of the model's state is a dict"):
        save_checkpoint(tmp_path / "c", extra, torch.optim.SGD(extra.parameters(), lr=1), RunState(), {}, CPU)
    net, optimizer = stepped()
    optimizer.state[net[0].weight]["object"] = object()
    with pytest.raises(TypeError, match=r"state 'object' of 0.weight .* without pickle"):
        save_checkpoint(tmp_path / "c", net, optimizer, RunState(), {}, CPU)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_give_the_same_weights_or_a_checkpoint_error(path: Path, data: st.DataObject) -> None:
    content = bytearray(path.read_bytes())
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for _ in range(data.draw(st.integers(1, 4))):
        # mostly in the header, where meaning is; the checksum guards the rest
        where = data.draw(st.one_of(st.integers(0, header - 1), st.integers(0, len(content) - 1)))
        content[where] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    mutated = path.with_name("mutated")
    mutated.write_bytes(bytes(content[:cut]))
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    try:
        state = restore_checkpoint(mutated, net, optimizer, IDENTITY, CPU)
    except CheckpointError:
        return
    assert state == STATE
    assert torch.equal(net[0].weight, stepped_weight(path))


def stepped_weight(path: Path) -> torch.Tensor:
    net = model()
    load_weights(net, path)
    return net[0].weight


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_hostile_json_with_a_valid_checksum_gives_a_checkpoint_error(path: Path, data: st.DataObject) -> None:
    from safetensors import safe_open

    from bittern.train.checkpoint import _checksum

    with safe_open(path, framework="pt") as file:
        run = json.loads(file.metadata()["bittern_checkpoint"])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    key = data.draw(st.sampled_from(sorted(run)))
    junk = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=9,
    )
    inner = run[key]
    if isinstance(inner, dict) and data.draw(st.booleans()):
        inner[data.draw(st.sampled_from(sorted(inner)))] = data.draw(junk)
    else:
        run[key] = data.draw(junk)
    if data.draw(st.booleans()):
        tensors["rng/cpu"] = torch.randint(0, 256, (data.draw(st.integers(0, 6000)),), dtype=torch.uint8)
    text = json.dumps(run)
    hostile = path.with_name("hostile")
    hostile.write_bytes(save(tensors, {"bittern_checkpoint": text, "crc32": str(_checksum(text, tensors))}))
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    try:
        restore_checkpoint(hostile, net, optimizer, IDENTITY, CPU)
    except CheckpointError:
        return
    assert set(optimizer.state) <= set(net.parameters())


def test_a_checkpoint_of_train_loads_as_weights(few: ImageData, mlp: type[nn.Module], tmp_path: Path) -> None:
    trained, loaded = mlp(), mlp(seed=1)
    train(trained, few, Recipe(epochs=1, batch_size=32), folder=tmp_path, progress=False)
    load_weights(loaded, tmp_path / FILE_NAME)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in trained.state_dict().items())
