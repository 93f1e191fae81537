# SPDX-License-Identifier: Apache-2.0
"""`bittern bench train`: a training step of every binary method beside the float twin, its time and its memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern import binary, optim
from bittern.bench.core.machine import this_machine
from bittern.bench.core.runner import Trial, run_trials
from bittern.bench.core.timing import Clock, Spread, check_budget, take_turns, torch_threads
from bittern.bench.optim.run import state_bytes
from bittern.bench.train.memory import saved_bytes
from bittern.bench.train.networks import NETWORKS, Network
from bittern.bench.train.report import TWIN, MethodStep, NetworkSteps, TrainReport
from bittern.quantizer import Quantizer

LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
Tell = Callable[[str], None]


class Training(NamedTuple):
    """A network in training mode, and a batch for it."""

    model: nn.Module
    images: Tensor
    labels: Tensor

    def loss(self) -> Tensor:
        return F.cross_entropy(self.model(self.images), self.labels)

    def step(self) -> None:
        self.model.zero_grad(set_to_none=True)
        self.loss().backward()  # type: ignore[no-untyped-call]

    def held(self) -> list[Tensor]:
        """What is there without a graph."""
        return [*self.model.parameters(), *self.model.buffers(), self.images, self.labels]


def run(
    threads: Sequence[int] = (1,),
    *,
    command: str,
    budget_s: float = 2.0,
    networks: Sequence[Network] = NETWORKS,
    methods: Sequence[type[Quantizer]] = binary.COMPARED,
    out: Path | None = None,
    on_row: Tell | None = None,
) -> TrainReport:
    """Measure on the CPU, about `budget_s` seconds for each method and network, three rounds at least.

    threads: everything is measured with each of these numbers. command: what the report names as its origin. out:
    JSON, written with its page after each network; a later call goes on. on_row: told what is measured next.

    Raises: ValueError for less than one thread, no method or network, a budget that is not positive, or an `out` of
    another run; OSError.
    """
    check_budget(budget_s)
    if not networks or not methods:
        raise ValueError("bench train: needs at least one network and one method")
    tell = on_row if on_row is not None else lambda subject: None
    with torch_threads(max(threads)):
        fresh = TrainReport(command, this_machine(), budget_s, tuple(m.__name__ for m in methods), ())
    trials = [
        Trial((network.name, count), partial(_steps, network, methods, count, budget_s, tell))
        for network in networks
        for count in threads
    ]
    return run_trials("bench train", out, fresh, trials, lambda steps: steps.key)


def _steps(
    network: Network, methods: Sequence[type[Quantizer]], threads: int, budget_s: float, tell: Tell
) -> NetworkSteps:
    tell(f"{network.name}, {threads} thread(s)")
    with torch_threads(threads), torch.random.fork_rng([]):
        torch.manual_seed(0)
        return measure(network, methods, budget_s=budget_s)


def measure(
    network: Network,
    methods: Sequence[type[Quantizer]],
    *,
    budget_s: float,
    clock: Clock = time.perf_counter_ns,
) -> NetworkSteps:
    """The twin and all methods in turn, in the layout that suits the twin."""
    layout = _twins_layout(network, budget_s, clock)
    trainings = {TWIN: training(network, None, layout)}
    trainings |= {method.__name__: training(network, method, layout) for method in methods}
    samples = take_turns([t.step for t in trainings.values()], budget_s=budget_s, clock=clock)
    twin = samples[0]
    steps = [
        MethodStep(
            name,
            Spread.of(mine),
            Spread.of([b / a for a, b in zip(mine, twin, strict=False)]),
            saved_bytes(one.loss, one.held()),
            _state_bytes(one, 32 if name == TWIN else 8),
        )
        for (name, one), mine in zip(trainings.items(), samples, strict=True)
    ]
    return NetworkSteps(network.name, network.batch, layout, torch.get_num_threads(), tuple(steps))


def training(network: Network, method: type[Quantizer] | None, layout: str) -> Training:
    """A network that starts anew, and a random batch."""
    model = network.build(method).train()
    images = torch.randn(network.batch, *network.input_shape)
    labels = torch.randint(network.classes, (network.batch,))
    memory_format = LAYOUTS[layout]
    model = model.to(memory_format=memory_format)  # type: ignore[call-overload]  # torch's stub lacks this form
    return Training(model, images.contiguous(memory_format=memory_format), labels)


def _twins_layout(network: Network, budget_s: float, clock: Clock) -> str:
    """The layout in which the float twin is faster; a network without images in it has no choice."""
    twins = {layout: training(network, None, layout) for layout in LAYOUTS}
    first = next(iter(LAYOUTS))
    if not any(isinstance(module, nn.Conv2d) for module in twins[first].model.modules()):
        return first
    samples = take_turns([twin.step for twin in twins.values()], budget_s=budget_s / 2, clock=clock)
    medians = {layout: Spread.of(found).median for layout, found in zip(twins, samples, strict=True)}
    return min(medians, key=lambda layout: medians[layout])


def _state_bytes(one: Training, bits: int) -> int:
    """Of AdamW's states after a step: torch's with 32 bits, bittern's with 8."""
    one.step()
    parameters = list(one.model.parameters())
    optimizer: torch.optim.Optimizer = (
        torch.optim.AdamW(parameters, lr=1e-3) if bits == 32 else optim.AdamW(parameters, lr=1e-3, state_bits=bits)
    )
    optimizer.step()
    return state_bytes(optimizer)
