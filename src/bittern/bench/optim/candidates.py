# SPDX-License-Identifier: Apache-2.0
"""The optimizers that `bittern bench optim` times, and what each is compared with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from bittern import optim
from bittern.bench.core.machine import FLOAT_BYTES
from bittern.ops.optimizer_step import SPECS, Rule, storage_of
from bittern.optim._options import DEFAULT_BLOCK

ADAM_BYTES_TARGET, MOMENTUM_BYTES_TARGET = 2.04, 1.02

Make = Callable[[list[Tensor]], torch.optim.Optimizer]


@dataclass(frozen=True, slots=True)
class Peer:
    """What a step is compared with."""

    name: str
    make: Make


def _new(make: Callable[..., torch.optim.Optimizer], params: list[Tensor], **options: object) -> torch.optim.Optimizer:
    return make(params, lr=1e-3, **options)


def fused_adamw(params: list[Tensor]) -> torch.optim.Optimizer:
    """torch's fused AdamW."""
    return torch.optim.AdamW(params, lr=1e-3, fused=True)


FUSED_ADAMW = Peer("torch AdamW fused", fused_adamw)
FUSED = {
    Rule.ADAM: FUSED_ADAMW,
    Rule.AMSGRAD: Peer("torch AdamW fused, amsgrad", partial(_new, torch.optim.AdamW, amsgrad=True, fused=True)),
    Rule.MOMENTUM: Peer("torch SGD fused", partial(_new, torch.optim.SGD, momentum=0.9, fused=True)),
    Rule.ADAGRAD: Peer("torch Adagrad fused", partial(_new, torch.optim.Adagrad, fused=True)),
}
"""torch's fused steps on a CPU, by rule."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An optimizer to time: how to make it, and the bytes per parameter that its step must move."""

    name: str
    make: Make
    bytes_per_param: float | None = None
    """None for peers, whose temporaries move more than their states."""
    state_bytes_target: float | None = None
    peer: Peer = FUSED_ADAMW
    """torch's fused step of the same rule, or that of AdamW where it has none."""
    dtype: torch.dtype = torch.float32
    """Of parameters and gradients."""


def step_bytes(rule: Rule, state_bits: int, logarithmic: bool = True, param_bytes: int = FLOAT_BYTES) -> float:
    """Bytes that one step must move per parameter, at the default block sizes.

    A rule with a trust ratio reads the parameter, the gradient and the states once more, for the norms; that of LARS,
    whose direction is the gradient, without the states.
    """
    storages = [storage_of(state, state_bits, logarithmic) for state in SPECS[rule].states]
    stored = sum(s.bits / 8 + s.scales * FLOAT_BYTES / DEFAULT_BLOCK[state_bits] for s in storages)
    again = {Rule.LAMB: 2 * param_bytes + stored, Rule.LARS: 2.0 * param_bytes}.get(rule, 0.0)
    return 3 * param_bytes + 2 * stored + again


_WORDS = {None: "", "stochastic": ", at random", "nearest": ", to nearest"}


def ours() -> tuple[Candidate, ...]:
    """bittern's optimizers: AdamW in every storage, the others with 8 bits; parameters are float32."""
    adamw = [
        Candidate(
            f"AdamW, {bits}-bit state{_WORDS[rounding]}",
            partial(_new, optim.AdamW, state_bits=bits, state_rounding=rounding),
            step_bytes(Rule.ADAM, bits, rounding != "nearest"),
            ADAM_BYTES_TARGET if bits == 8 else None,
        )
        for bits, rounding in ((8, None), (4, None), (4, "nearest"), (8, "stochastic"), (32, None))
    ]
    others: tuple[tuple[str, Callable[..., torch.optim.Optimizer], Rule], ...] = (
        ("SGD with momentum", partial(optim.SGD, momentum=0.9), Rule.MOMENTUM),
        ("Lion", optim.Lion, Rule.LION),
        ("Adagrad", optim.Adagrad, Rule.ADAGRAD),
        ("RMSprop", optim.RMSprop, Rule.RMSPROP),
        ("RMSprop with momentum", partial(optim.RMSprop, momentum=0.9), Rule.RMSPROP_MOMENTUM),
        ("RMSprop, centered", partial(optim.RMSprop, centered=True), Rule.RMSPROP_CENTERED),
        (
            "RMSprop, centered, with momentum",
            partial(optim.RMSprop, centered=True, momentum=0.9),
            Rule.RMSPROP_CENTERED_MOMENTUM,
        ),
        ("AdamW with AMSGrad", partial(optim.AdamW, amsgrad=True), Rule.AMSGRAD),
        ("NAdam", optim.NAdam, Rule.NADAM),
        ("RAdam", optim.RAdam, Rule.RADAM),
        ("LAMB", optim.LAMB, Rule.LAMB),
        ("LARS", partial(optim.LARS, momentum=0.9), Rule.LARS),
        ("AdEMAMix", optim.AdEMAMix, Rule.ADEMAMIX),
        ("Adan", optim.Adan, Rule.ADAN),
    )
    return (
        *adamw,
        *(
            Candidate(
                f"{name}, 8-bit state",
                partial(_new, make),
                step_bytes(rule, 8),
                MOMENTUM_BYTES_TARGET if len(SPECS[rule].states) == 1 else None,
                FUSED.get(rule, FUSED_ADAMW),
            )
            for name, make, rule in others
        ),
    )


def halves() -> tuple[Candidate, ...]:
    """Parameters and gradients of 16 bits, in the storages and roundings that there are."""
    found = []
    for dtype, bits, rounding in (
        (torch.bfloat16, 8, "nearest"),
        (torch.bfloat16, 8, "stochastic"),
        (torch.bfloat16, 8, "kahan"),
        (torch.bfloat16, 4, "nearest"),
        (torch.bfloat16, 32, "nearest"),
        (torch.float16, 8, "nearest"),
    ):
        lost = 2 * dtype.itemsize if rounding == "kahan" else 0
        found.append(
            Candidate(
                f"AdamW, {bits}-bit state, {_short(dtype)} {rounding}",
                partial(_new, optim.AdamW, state_bits=bits, rounding=rounding),
                step_bytes(Rule.ADAM, bits, param_bytes=dtype.itemsize) + lost,
                dtype=dtype,
            )
        )
    for name, make, rule in (
        ("SGD with momentum", partial(optim.SGD, momentum=0.9), Rule.MOMENTUM),
        ("Lion", optim.Lion, Rule.LION),
    ):
        found.append(
            Candidate(
                f"{name}, 8-bit state, bfloat16 nearest",
                partial(_new, make),
                step_bytes(rule, 8, param_bytes=2),
                peer=FUSED.get(rule, FUSED_ADAMW),
                dtype=torch.bfloat16,
            )
        )
    return tuple(found)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def peers() -> tuple[Candidate, ...]:
    """torch's other implementations of AdamW, and bitsandbytes and torchao where they are installed."""
    found = [
        Candidate("torch AdamW, for-loop (its default)", partial(_new, torch.optim.AdamW, foreach=False)),
        Candidate("torch AdamW, foreach", partial(_new, torch.optim.AdamW, foreach=True)),
    ]
    with suppress(ImportError):
        import bitsandbytes.optim as other

        found.append(Candidate("bitsandbytes AdamW8bit", partial(_new, other.AdamW8bit)))
    with suppress(ImportError):
        from torchao.optim import AdamW8bit

        found.append(Candidate("torchao AdamW8bit, compiled before the clock starts", partial(_stepped, AdamW8bit)))
    return tuple(found)


def _stepped(make: Callable[..., torch.optim.Optimizer], params: list[Tensor]) -> torch.optim.Optimizer:
    """An optimizer that compiles itself by its first step, after that step."""
    optimizer = _new(make, params)
    optimizer.step()
    return optimizer
