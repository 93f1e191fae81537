# SPDX-License-Identifier: Apache-2.0
"""`functional.optimizer_update_*`: one step of one tensor by the native rules, in place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bittern.ops.optimizer_step import SPECS, Rule, optimizer_step, state_table

_BLOCK_SIZE = 256
_RULES = {
    "adam": Rule.ADAM,
    "ademamix": Rule.ADEMAMIX,
    "lamb": Rule.LAMB,
    "lars": Rule.LARS,
    "momentum": Rule.MOMENTUM,
    "lion": Rule.LION,
    "rmsprop": Rule.RMSPROP,
    "adagrad": Rule.ADAGRAD,
}
_COUPLED = ("momentum", "rmsprop", "adagrad")
NO_LIMIT = 2.0**64
"""A trust coefficient so large that the ratio, at most 1, is 1; a power of two, so that scaling by it is exact."""


def trust_coefficient(owner: str, max_unorm: float) -> float:
    """The coefficient that limits an update to max_unorm |p|; 0 is no limit. Errors: ValueError below 0."""
    if max_unorm < 0:
        raise ValueError(f"{owner}: max_unorm must be positive, or 0 for no limit; got {max_unorm}")
    return max_unorm or NO_LIMIT


def _scalars(
    name: str, step: int, lr: float, betas: tuple[float, float, float], alpha: float, eps: float, weight_decay: float
) -> dict[str, float]:
    """The scalars of every rule here, by name."""
    beta1, beta2, beta3 = betas
    correction1, correction2 = 1 - beta1**step, 1 - beta2**step
    return {
        "lr": lr,
        "eps": eps,
        "weight_decay": 0.0 if name not in (*_COUPLED, "lamb", "lars") else weight_decay,
        "keep": 1 - lr * weight_decay,
        "beta1": beta1,
        "beta1_rest": 1 - beta1,
        "beta2": beta2,
        "beta2_rest": 1 - beta2,
        "beta3": beta3,
        "beta3_rest": 1 - beta3,
        "alpha": beta1 if name == "rmsprop" else alpha,
        "alpha_rest": 1 - beta1,
        "step_size": lr if name == "adagrad" else lr / correction1 if correction1 else 0.0,
        "inv_correction1": 1 / correction1 if correction1 else 0.0,
        "inv_sqrt_correction2": correction2**-0.5 if correction2 else 0.0,
        "momentum": 0.0 if name == "rmsprop" else beta1,
        "gradient_weight": 1.0,
        "nesterov": 0.0,
    }


def _step(name: str, p: Tensor, g: Tensor, states: list[Tensor], absmax: list[Tensor], bits: int, s: Any) -> None:
    rule = _RULES[name]
    row = torch.tensor([[float(s[scalar]) for scalar in SPECS[rule].scalars]], dtype=torch.float32)
    optimizer_step(rule, [p], [g], states, absmax, row, [bits], [_BLOCK_SIZE], [p.numel()], [], None)


def _check(owner: str, name: str, skip_zeros: bool) -> None:
    if name not in _RULES:
        raise ValueError(f"{owner}: optimizer_name must be one of {', '.join(_RULES)}; got {name!r}")
    if skip_zeros:
        raise ValueError(f"{owner}: skip_zeros=True is not supported; leave it out")


def _unstacked(name: str, first: Tensor, second: Tensor | None) -> list[Tensor]:
    """AdEMAMix stacks its two means in the first state."""
    firsts = list(first) if name == "ademamix" else [first]
    return firsts + ([] if second is None else [second])


def optimizer_update_32bit(
    optimizer_name: str,
    g: Tensor,
    p: Tensor,
    state1: Tensor,
    beta1: float,
    eps: float,
    step: int,
    lr: float,
    state2: Tensor | None = None,
    beta2: float = 0.0,
    beta3: float = 0.0,
    alpha: float = 0.0,
    weight_decay: float = 0.0,
    gnorm_scale: float = 1.0,
    unorm_vec: Tensor | None = None,
    max_unorm: float = 0.0,
    skip_zeros: bool = False,
) -> None:
    """One step with float32 states, in place; `g` counts gnorm_scale times.

    max_unorm: the trust coefficient of LAMB and LARS, whose ratio is at most 1 (0: no limit); others have none.
    Errors: ValueError for another rule, skip_zeros, or a max_unorm or unorm_vec that the rule does not use.
    """
    _check("optimizer_update_32bit", optimizer_name, skip_zeros)
    if max_unorm and optimizer_name not in ("lamb", "lars"):
        raise ValueError(f"optimizer_update_32bit: {optimizer_name} has no trust ratio; got max_unorm={max_unorm}")
    scalars = _scalars(optimizer_name, step, lr, (beta1, beta2, beta3), alpha, eps, weight_decay)
    coefficient = trust_coefficient("optimizer_update_32bit", max_unorm)
    scalars |= {"grad_scale": gnorm_scale, "trust_coefficient": coefficient, "max_trust": 1.0}
    if optimizer_name == "lamb":
        scalars |= {"lr": lr * coefficient, "max_trust": 1 / coefficient}
    states = _unstacked(optimizer_name, state1, state2)
    _step(optimizer_name, p, g, states, [torch.empty(0) for _ in states], 32, scalars)
    if unorm_vec is not None:
        unorm_vec.zero_()


def optimizer_update_8bit_blockwise(
    optimizer_name: str,
    g: Tensor,
    p: Tensor,
    state1: Tensor,
    state2: Tensor | None,
    beta1: float,
    beta2: float,
    beta3: float,
    alpha: float,
    eps: float,
    step: int,
    lr: float,
    qmap1: Tensor,
    qmap2: Tensor | None,
    absmax1: Tensor,
    absmax2: Tensor | None,
    weight_decay: float = 0.0,
    gnorm_scale: float = 1.0,
    skip_zeros: bool = False,
) -> None:
    """One step with 8-bit states in blocks of 256, in place.

    qmap1 and qmap2 must be the dynamic maps: signed, but unsigned for sums of squares (also RMSprop's and Adagrad's).
    Errors: ValueError for another rule, table or skip_zeros.
    """
    _check("optimizer_update_8bit_blockwise", optimizer_name, skip_zeros)
    if optimizer_name in ("lamb", "lars"):
        raise ValueError(f"optimizer_update_8bit_blockwise: use bnb.optim for {optimizer_name}; it has a trust ratio")
    signs = [state.signed for state in SPECS[_RULES[optimizer_name]].states]
    for name, table, signed in (("qmap1", qmap1, signs[0]), ("qmap2", qmap2, signs[-1])):
        if table is not None and not torch.equal(table.cpu(), state_table(signed, 8)):
            kind = "signed" if signed else "unsigned"
            raise ValueError(
                f"optimizer_update_8bit_blockwise: {name} of {optimizer_name} must be create_dynamic_map({signed}), "
                f"the {kind} one; got another table"
            )
    scalars = _scalars(optimizer_name, step, lr, (beta1, beta2, beta3), alpha, eps, weight_decay)
    scalars["grad_scale"] = gnorm_scale
    states = _unstacked(optimizer_name, state1, state2)
    absmax = _unstacked(optimizer_name, absmax1, absmax2)
    _step(optimizer_name, p, g, states, absmax, 8, scalars)
