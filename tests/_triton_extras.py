# SPDX-License-Identifier: Apache-2.0
"""Calls with options, for the Triton kernels beside the light cases."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from _cases import TABLES, generator
from _log_cases import OPTIONS, LogStep
from _step_cases import Step
from bittern import ops


class Extra(NamedTuple):
    """One call with keyword arguments."""

    label: str
    op: ops.Op[Any]
    arguments: tuple[Any, ...]
    options: dict[str, Any]


def extras() -> list[Extra]:
    """Kept zeros and stochastic rounding, in every block size between them."""
    x = torch.randn(1000, generator=generator("extras")) * torch.logspace(-9, 0, 1000)
    found = []
    for table, block in (("tree", 32), ("symmetric tree", 64), ("nf4", 128), ("linear", 4096), ("unsigned tree", 512)):
        numbers = x.abs() if "unsigned" in table else x
        for seed in (0, 12345, 2**40 + 7, 2**63 + 5):
            options = {"seed": seed} | ({"keep_nonzero": True} if "unsigned" in table else {})
            arguments = (numbers, TABLES[table], block)
            found.append(Extra(f"{table}-{block}-{seed}", ops.quantize_blockwise, arguments, options))
    found.append(Extra("kept", ops.quantize_blockwise, (x.abs(), TABLES["unsigned tree"]), {"keep_nonzero": True}))
    found.append(Extra("nibbles", ops.quantize_4bit, (x[:333], TABLES["nf4"]), {"seed": 5}))
    return found


def check_repeated_steps() -> None:
    """A prepared step sees gradients that moved, new scalars, and changes of the gradients' type."""
    from bittern.ops.optimizer_step import SPECS, Rule
    from bittern.ops.optimizer_step.cuda import CudaStep

    step = Step(Rule.ADAM, (8, 32, 8, 4), (300, 65, 1000, 257))
    mine, theirs = step.make(), step.make()
    rule, params, _, states, absmax, scalars, bits, block, rows, lost, _ = mine
    prepared = CudaStep(Rule(rule), params, states, absmax, bits, block, rows, lost)
    for number, dtype in enumerate((torch.float32, torch.float32, torch.float16)):
        draw = generator(f"repeated {number}")
        grads = [torch.randn(p.shape, generator=draw).to(dtype) for p in params]
        row = scalars.clone()
        row[0, SPECS[Rule.ADAM].scalars.index("step_size")] *= number + 1
        prepared.run(grads, row, None)
        ops.optimizer_step.reference(rule, theirs[1], grads, theirs[3], theirs[4], row, bits, block, rows, lost)
    for a, b in zip(params, theirs[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def check_norms_of_shards() -> None:
    """Sums of squares as the native kernels measure them, and a step with ratios from elsewhere."""
    from bittern.ops.optimizer_step import PreparedStep, Rule
    from bittern.ops.optimizer_step.cuda import CudaStep

    for rule in (Rule.LAMB, Rule.LARS):
        step = Step(rule, (8, 32, 8), (300, 65, 5000))
        mine, theirs = step.make(), step.make()
        ratios = torch.tensor([0.5, 2.0, 1.0])
        (_, p, g, s, a, scalars, *layout, lost, _), (_, q, h, t, b, _, *_) = mine, theirs
        kernel, native = CudaStep(rule, p, s, a, *layout, lost), PreparedStep(rule, q, t, b, *layout)
        torch.testing.assert_close(kernel.measure(g, scalars), native.measure(h, scalars), rtol=1e-5, atol=0.0)
        kernel.run(g, scalars, None, ratios)
        native.run(h, scalars, ratios=ratios)
        for x, y in zip(p, q, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def check_log_norms() -> None:
    """States of log_codes are measured as the native kernels measure them."""
    from bittern.ops.optimizer_step import PreparedStep, Rule
    from bittern.ops.optimizer_step.cuda import CudaStep

    for rule in (Rule.LAMB, Rule.LARS):
        arguments = LogStep(Step(rule, (4, 8, 4), (300, 65, 5000), options=OPTIONS)).make()
        _, params, grads, states, absmax, scalars, *layout, _, seeds, at_random = arguments
        kernel = CudaStep(rule, params, states, absmax, *layout)
        native = PreparedStep(rule, params, states, absmax, *layout, at_random=at_random)
        found = kernel.measure(grads, scalars, seeds)
        torch.testing.assert_close(found, native.measure(grads, scalars, seeds), rtol=1e-5, atol=0.0)
