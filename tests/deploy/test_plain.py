# SPDX-License-Identifier: Apache-2.0
"""Whatever modes of torch a caller has set, pack, verify and a packed model give the same, and leave all as it was."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from torch import Tensor, nn

from _cpu import pretend
from bittern.binary import BNN, DoReFa, XNORNet
from bittern.deploy import Packed, pack, verify
from bittern.deploy.packed import from_bytes
from bittern.nn import BinaryConv2d, BinaryLinear


def net() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Hardtanh(inplace=True),
        nn.Conv2d(3, 16, 3),
        nn.BatchNorm2d(16),
        BinaryConv2d(16, 16, 3, bias=True, method=XNORNet),
        nn.BatchNorm2d(16),
        nn.PReLU(16),
        BinaryConv2d(16, 8, 3, method=partial(DoReFa, input_bits=2)),
        nn.Flatten(),
        BinaryLinear(32, 16, method=BNN),
        nn.BatchNorm1d(16),
        nn.Linear(16, 10),
    )
    model(torch.randn(32, 3, 8, 8))
    return model.train()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)  # type: ignore[arg-type]


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def flushed() -> Iterator[None]:
    assert torch.set_flush_denormal(True)
    try:
        yield
        assert float(torch.tensor([1e-40]) * 1.0) == 0.0, "the mode of the caller must be left set"
    finally:
        torch.set_flush_denormal(False)


MODES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "autocast": partial(torch.autocast, "cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
    "gradients": torch.enable_grad,
    "float64": partial(default_dtype, torch.float64),
    "float16": partial(default_dtype, torch.float16),
    "meta device": partial(default_device, "meta"),
    "device of a block": partial(torch.device, "meta"),
    "deterministic": deterministic,
    "flushed subnormals": flushed,
}


@pytest.fixture(scope="module")
def as_usual() -> tuple[nn.Module, Tensor, bytes]:
    """A network, an example, and its packed file without any mode."""
    model = net()
    example = torch.randn(2, 3, 8, 8)
    return model, example, pack(model, example).to_bytes()


@pytest.mark.parametrize("mode", MODES)
def test_modes_change_nothing(mode: str, as_usual: tuple[nn.Module, Tensor, bytes]) -> None:
    model, example, data = as_usual
    batch = torch.randn(5, 3, 8, 8)
    batch[1] *= 1e-39
    packed = from_bytes(data)
    want = packed(batch)
    fresh = from_bytes(data)
    with MODES[mode]():
        got = [fresh(batch), from_bytes(data)(batch), packed(batch)]
        again = pack(model, example)
        report = verify(packed, model, batch)
    for answer in got:
        assert answer.dtype == torch.float32
        assert answer.device.type == "cpu"
        assert not answer.requires_grad
        assert not answer.is_inference()
        assert torch.equal(answer, want)
    assert again.to_bytes() == data
    assert report.exact
    assert report.logits_identical
    assert torch.equal(fresh(batch), want), "nothing of the mode stays in the model"


def test_model_example_and_random_state_are_left_as_they_were() -> None:
    model = net()
    model[2].eval()
    model[3].weight.requires_grad_(False)
    example = torch.randn(2, 3, 8, 8)
    before, state = example.clone(), torch.get_rng_state()
    kept = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    grads = [parameter.requires_grad for parameter in model.parameters()]
    packed = pack(model, example)
    verify(packed, model, [example, example[:1]])
    packed(example)
    assert torch.equal(example, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == grads
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_layouts_change_nothing() -> None:
    model, x = net(), torch.randn(4, 3, 8, 8)
    data = pack(model, x).to_bytes()
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = x.contiguous(memory_format=torch.channels_last)
    packed = pack(last, images)
    assert packed.to_bytes() == data
    assert verify(packed, last, images).logits_identical
    negated = torch.complex(torch.zeros_like(x), -x).conj().imag
    assert negated.is_neg()
    assert torch.equal(packed(negated), packed(x))


def test_several_threads_pack_and_run_at_once() -> None:
    models = [net() for _ in range(3)]
    example, batch = torch.randn(2, 3, 8, 8), torch.randn(3, 3, 8, 8)
    want = pack(models[0], example)(batch)
    found: list[Tensor] = []
    plain = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
    stop = threading.Event()
    broken: list[Exception] = []

    def work(model: nn.Module) -> None:
        found.append(pack(model, example)(batch))

    def train() -> None:
        try:
            while not stop.is_set():
                plain(torch.ones(1, 8))
        except Exception as error:
            broken.append(error)

    beside = threading.Thread(target=train)
    beside.start()
    threads = [threading.Thread(target=work, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    beside.join()
    assert not broken, "another thread's model was caught in the trace"
    assert len(found) == len(models)
    assert all(torch.equal(answer, want) for answer in found)


# -- copies


@pytest.mark.parametrize("real", [torch.float32, torch.bfloat16])
def test_a_packed_model_is_copied_with_all_that_it_is(monkeypatch: pytest.MonkeyPatch, real: torch.dtype) -> None:
    pretend(monkeypatch, avx512_bf16=True)
    packed = pack(net(), torch.randn(1, 3, 8, 8)).with_real(real)
    packed.info["note"] = "kept"
    x = torch.randn(3, 3, 8, 8)
    pickled = ForkingPickler.loads(ForkingPickler.dumps(packed))
    for other in (copy.deepcopy(packed), copy.copy(packed), pickled, packed.to("cpu")):
        assert isinstance(other, Packed)
        assert other.real == real
        assert other.device == packed.device
        assert other.info == packed.info
        assert torch.equal(other(x), packed(x))


RECEIVER = """
import sys, torch
from multiprocessing.reduction import ForkingPickler
model, x, want = ForkingPickler.loads(sys.stdin.buffer.read())
assert model(torch.tensor(x)).tolist() == want
"""


def test_a_packed_model_travels_to_another_process() -> None:
    packed = pack(nn.Sequential(nn.Linear(8, 8), BinaryLinear(8, 4, method=BNN)), torch.randn(1, 8))
    x = torch.randn(2, 8)
    sent = bytes(ForkingPickler.dumps((packed, x.tolist(), packed(x).tolist())))
    subprocess.run([sys.executable, "-c", RECEIVER], input=sent, check=True, timeout=300)


# -- answers of their own memory


@pytest.mark.parametrize(
    "model",
    [
        nn.Identity(),
        nn.Flatten(),
        nn.Sequential(nn.Flatten(), nn.Flatten()),
        nn.Sequential(nn.Dropout(), nn.Hardtanh()),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.Flatten()),
        nn.Sequential(BinaryConv2d(4, 4, 1, method=BNN), nn.BatchNorm2d(4), nn.Flatten()),
    ],
    ids=["identity", "flatten", "twice", "clamp", "conv", "binary"],
)
def test_writing_to_an_answer_changes_nothing_else(model: nn.Module) -> None:
    packed = pack(model.eval(), torch.randn(1, 4, 3, 3))
    x = torch.rand(2, 4, 3, 3)
    before = x.clone()
    first = packed(x)
    want = first.clone()
    first.fill_(7.0)
    assert torch.equal(x, before)
    assert torch.equal(packed(x), want)
    x.fill_(3.0)
    packed(x)
    assert torch.equal(first, torch.full_like(first, 7.0))
