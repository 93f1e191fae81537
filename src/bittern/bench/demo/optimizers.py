# SPDX-License-Identifier: Apache-2.0
"""The demo's look at optimizers: a small GPT trained with states of 32, 8 and 4 bits, and the time of a step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bittern import optim
from bittern.bench.core.timing import compare
from bittern.bench.demo.result import OptimizerRow, Settings
from bittern.bench.optim.run import state_bytes
from bittern.bench.optim.training import training_losses
from bittern.data.text import TextData, characters, sample_text, windows
from bittern.models.language import GPT, GPTShape

Make = Callable[[list[Tensor]], torch.optim.Optimizer]
BITS = (32, 8, 4)
SHAPE = GPTShape(layers=2, width=64, heads=4, context=32)
STEPS, BATCH, ELEMENTS = 120, 16, 2_000_000
QUICK_STEPS, QUICK_ELEMENTS = 3, 20_000


def optimizer_rows(settings: Settings) -> tuple[OptimizerRow, ...]:
    """One row per storage, 32 bits first; equal weights and batches."""
    text = characters(sample_text(400, settings.seed))
    return tuple(_row(text, bits, settings) for bits in BITS)


def _row(text: TextData, bits: int, settings: Settings) -> OptimizerRow:
    torch.manual_seed(settings.seed)
    model = GPT(len(text.vocabulary), SHAPE)
    optimizer = optim.AdamW(model.parameters(), lr=3e-3, state_bits=bits)
    losses = _train(model, optimizer, text, settings)
    stepped = _optimizer_of_one(settings, lambda p: optim.AdamW(p, lr=1e-3, state_bits=bits))
    fused = _optimizer_of_one(settings, lambda p: torch.optim.AdamW(p, lr=1e-3, fused=True))
    pair = compare(stepped.step, fused.step, budget_s=settings.timing_s)
    return OptimizerRow(
        bits=bits,
        bytes_per_param=state_bytes(stepped) / _elements(settings),
        step_us=pair.latency_us,
        fused_us=pair.baseline_latency_us,
        speedup=pair.speedup,
        losses=losses,
    )


def _train(model: GPT, optimizer: torch.optim.Optimizer, text: TextData, settings: Settings) -> tuple[float, ...]:
    draw = torch.Generator().manual_seed(settings.seed)
    steps = QUICK_STEPS if settings.quick else STEPS
    return tuple(training_losses(model, optimizer, lambda: windows(text.train, SHAPE.context, BATCH, draw), steps))


def _elements(settings: Settings) -> int:
    return QUICK_ELEMENTS if settings.quick else ELEMENTS


def _optimizer_of_one(settings: Settings, make: Make) -> torch.optim.Optimizer:
    p = torch.randn(_elements(settings), requires_grad=True)
    p.grad = torch.randn_like(p)
    optimizer = make([p])
    optimizer.step()
    return optimizer
