# SPDX-License-Identifier: Apache-2.0
"""Optimizers on a GPU: the steps of the CPU, in CUDA graphs too, with states in host memory, and across devices."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bittern import optim
from optim._training import parameters, relative_error, train

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
NAMES = ("SGD", "AdamW", "NAdam", "RAdam", "Adagrad", "RMSprop", "Lion", "LAMB", "LARS", "AdEMAMix", "Adan")


def on_cuda() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(p.detach().cuda()) for p in parameters()]


def moved(params: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    return [p.detach().cpu() - b.detach() for p, b in zip(params, parameters(), strict=True)]


@pytest.mark.parametrize("bits", [32, 8, 4])
@pytest.mark.parametrize("name", NAMES)
def test_trajectory_of_the_cpu(name: str, bits: int) -> None:
    here, there = parameters(), on_cuda()
    options: dict[str, Any] = {"lr": 1e-2, "state_bits": bits, "min_8bit_size": 0}
    for params in (here, there):
        optimizer = getattr(optim, name)(params, **options)
        for step in range(20):
            for i, p in enumerate(params):
                draw = torch.Generator().manual_seed(100 * step + i)
                p.grad = torch.randn(p.shape, generator=draw).to(p.device)
            optimizer.step()
    assert relative_error(moved(there), moved(here)) < 0.01


@pytest.mark.parametrize("name", ["AdamW", "Lion"])
def test_states_in_host_memory(name: str) -> None:
    near, far = on_cuda(), on_cuda()
    train(getattr(optim, name)(near, lr=1e-2), near, 10)
    optimizer = getattr(optim, name)(far, lr=1e-2, offload="cpu")
    train(optimizer, far, 10)
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(near, far, strict=True))
    codes = [x for state in optimizer.state.values() for key, x in state.items() if key.startswith("exp_avg")]
    assert codes
    assert all(x.is_cpu and x.is_pinned() for x in codes)
    optimizer.load_state_dict(optimizer.state_dict())
    train(optimizer, far, 1)


def test_cuda_graph() -> None:
    """Captured steps, replayed with new gradients in the same memory, are the steps taken one by one."""
    params, others = on_cuda(), on_cuda()
    captured = optim.AdamW(params, lr=1e-2, capturable=True)
    plain = optim.AdamW(others, lr=1e-2)
    for p in (*params, *others):
        p.grad = torch.ones_like(p)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            captured.step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured.step()
    for _ in range(3):
        plain.step()
    for _ in range(5):
        for p in (*params, *others):
            assert p.grad is not None
            p.grad.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
        graph.replay()
        plain.step()
    assert relative_error(moved(params), moved(others)) < 1e-3


def test_checkpoint_from_the_cpu() -> None:
    here, there = parameters(), on_cuda()
    first, second = optim.AdamW(here, lr=1e-2), optim.AdamW(there, lr=1e-2)
    train(first, here, 5)
    second.load_state_dict(first.state_dict())
    for p, q in zip(here, there, strict=True):
        q.data.copy_(p.data)
        p.grad = torch.ones_like(p)
        q.grad = torch.ones_like(q)
    first.step()
    second.step()
    assert relative_error(moved(there), moved(here)) < 1e-3


def test_offload_of_parameters_that_move() -> None:
    params = on_cuda()
    optimizer = optim.AdamW(params, lr=1e-2, offload="cpu")
    train(optimizer, params, 2)
    for p in params:
        p.data = p.data.cpu()
        p.grad = torch.zeros_like(p)
    with pytest.raises(ValueError, match="is for CUDA parameters"):
        optimizer.step()


def test_capturing_needs_capturable() -> None:
    params = on_cuda()
    optimizer = optim.AdamW(params, lr=1e-2)
    train(optimizer, params, 1)

    def capture() -> None:
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            torch.zeros(3, device="cuda")  # torch warns about an empty graph
            optimizer.step()

    with pytest.raises(RuntimeError, match="pass capturable=True"):
        capture()


def test_offloaded_states_are_finished_when_saved() -> None:
    near, far = ([torch.nn.Parameter(torch.ones(1 << 22, device="cuda"))] for _ in range(2))
    optimizers = optim.AdamW(near), optim.AdamW(far, offload="cpu")
    for params, optimizer in zip((near, far), optimizers, strict=True):
        params[0].grad = torch.linspace(-1, 1, 1 << 22, device="cuda")
        optimizer.step()
    saved = [optimizer.state_dict()["state"][0]["exp_avg"] for optimizer in reversed(optimizers)]
    assert torch.equal(saved[0], saved[1].cpu())
