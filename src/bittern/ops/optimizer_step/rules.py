# SPDX-License-Identifier: Apache-2.0
"""The update rules as formulas: what one step does to a parameter and its optimizer states.

A rule is a pure function of float32 tensors: `rule(p, g, states, s) -> (new p, new states)`. `s` holds the scalars of
the rule by name, computed per step in double precision by `bittern.optim` (bias corrections, step sizes) and rounded
once to float32. `g` is the gradient times `grad_scale`; -1 maximizes. Coupled weight decay adds `weight_decay * p` to
the gradient; decoupled weight decay multiplies p by `keep` = 1 - lr * weight_decay before the update.

State names are those of torch.optim where it has them. A signed state may be negative; an unsigned state is a sum of
squares. The native and Triton kernels follow the same order of operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

Scalars = Mapping[str, float]
States = tuple[Tensor, ...]
Update = Callable[[Tensor, Tensor, States, Scalars], tuple[Tensor, States]]


class Rule(IntEnum):
    """Number of a rule on the native side."""

    SGD = 0
    MOMENTUM = 1
    ADAM = 2
    AMSGRAD = 3
    NADAM = 4
    RADAM = 5
    ADAGRAD = 6
    RMSPROP = 7
    RMSPROP_MOMENTUM = 8
    RMSPROP_CENTERED = 9
    RMSPROP_CENTERED_MOMENTUM = 10
    LION = 11
    LAMB = 12
    LARS = 13
    ADEMAMIX = 14
    ADAN = 15
    ADADELTA = 16
    ADAMAX = 17
    RPROP = 18
    ASGD = 19
    SCHEDULE_FREE_ADAMW = 20
    SCHEDULE_FREE_SGD = 21


class State(NamedTuple):
    """One optimizer state: its name in `state_dict` and what its codes may rely on."""

    name: str
    signed: bool
    """Whether it can be negative; others are sums of squares, or magnitudes."""
    relative: bool = False
    """Whether its size is that of the root of the rule's first square."""
    slow: bool = False
    """Whether it averages over so many steps that 4 bits, rounded at random, drown it."""
    exact: bool = False
    """Whether it stays float32 in every storage: weights, and sums of steps too small for the next code."""


class RuleSpec(NamedTuple):
    """A rule's states, the names of its scalars in kernel order, and its formula."""

    states: tuple[State, ...]
    scalars: tuple[str, ...]
    update: Update


def sgd(p: Tensor, g: Tensor, states: States, s: Scalars) -> tuple[Tensor, States]:
    """p - lr (g + wd p)."""
    g = g + s["weight_decay"] * p
    return p - s["lr"] * g, ()


def momentum(p: Tensor, g: Tensor, states: States, s: Scalars) -> tuple[Tensor, States]:
    """Heavy ball as torch.optim.SGD has it; gradient_weight is 1 on the first step, then 1 - dampening."""
    g = g + s["weight_decay"] * p
    m = s["momentum"] * states[0] + s["gradient_weight"] * g
    u = g + s["momentum"] * m if s["nesterov"] else m
    return p - s["lr"] * u, (m,)


def _moments(p: Tensor, g: Tensor, m: Tensor, v: Tensor, s: Scalars) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient with coupled decay, and its running mean and uncentered variance (arXiv 1412.6980)."""
    g = g + s["weight_decay"] * p
    m = s["beta1"] * m + s["beta1_rest"] * g
    v = s["beta2"] * v + s["beta2_rest"] * (g * g)
    return g, m, v


def adam(p: Tensor, g: Tensor, states: States, s: Scalars) -> tuple[Tensor, States]:
    """Adam (arXiv 1412.6980) and, by `keep`, AdamW (arXiv 1711.05101)."""
    _, m, v = _moments(p, g, states[0], states[1], s)
    denominator = v.sqrt() * s["inv_sqrt_correction2"] + s["eps"]
    return p * s["keep"] - s["step_size"] * m / denominator, (m, v)


def amsgrad(p: Tensor, g: Tensor, states: States, s: Scalars) -> tuple[Tensor, States]:
    """AMSGrad (arXiv 1904.09237): the largest second moment so far divides."""
    _, m, v = _moments(p, g, states[0], states[1], s)
    largest = torch.maximum(states[2], v)
    denominator = largest.sqrt() * s["inv_sqrt_correction2"] + s["eps"]
    return p * s["keep"] - s["step_size"] * m / denominator, (m, v, largest)


def nadam(p: Tensor, g: Tensor, states: States, s: Scalars) -> tuple[Tensor, States]:
    """NAdam (Dozat 2016): Nesterov's look-ahead as two step sizes."""
    g, m, v = _moments(p, g, states[0], states[1], s)
    denominator = v.sqrt() * s["inv_sqrt_correction2"] + s["eps"]
    return p * s["keep"] - (s["gradient_step"] * g + s["momentum_step"] * m) / denominator, (m, v)


def radam(p: Tensor, g: Tensor, states: States, s: Scalars) -> tuple[Tensor, States]:
    """RAdam (arXiv 1908.03265); `adaptive` is 0 while the variance of v is intractable."""
    _, m, v = _moments(p, g, states[0], states[1], s)
    denominator = v.sqrt() + s["eps"] if s["adaptive"] else torch.ones_like(v)
    return p * s["keep"] - s["step_size"] * m / denominator, (m, v)


def adagrad(p: Tensor, g: Tensor, states: States, s: Scalars) -> tuple[Tensor, States]:
    """Adagrad (Duchi et al. 2011)."""
    g = g + s["weight_decay"] * p
    total = states[0] + g * g
    return p - s["step_size"] * g / (total.sqrt() + s["eps"]), (total,)


def _rmsprop(centered: bool, heavy: bool) -> Update:
    def rmsprop(p: Tensor, g: Tensor, states: States, s: Scalars) -> tuple[Tensor, States]:
        """RMSprop (Tieleman and Hinton 2012; centered: arXiv 1308.0850). A variance below 0 counts as 0."""
        g = g + s["weight_decay"] * p
        v = s["alpha"] * states[0] + s["alpha_rest"] * (g * g)
        new = [v]
        variance = v
        if centered:
            mean = s["alpha"] * states[1] + s["alpha_rest"] * g
            variance = (v - mean * mean).clamp(min=0)
            new.append(mean)
        scaled = g / (variance.sqrt() + s["eps"])
        if heavy:
            scaled = s["momentum"] * states[-1] + scaled
            new.append(scaled)
        return p - s["lr"] * scaled, tuple(new)

    return rmsprop


def lion(p: Tensor, g: Tensor, states: States, s: Scalars) -> tuple[Tensor, States]:
    """Lion (arXiv 2302.06675). Its sign of 0 is 0: a parameter without gradient stays where it is."""
    mixed = s["beta1"] * states[0] + s["beta1_rest"] * g
    direction = (mixed > 0).float() - (mixed < 0).float()
    return p * s["keep"] - s["lr"] * direction, (s["beta2"] * states[0] + s["beta2_rest"] * g,)


def lamb_direction(p: Tensor, m: Tensor, v: Tensor, s: Scalars) -> Tensor:
    """LAMB's update before the trust ratio."""
    denominator = v.sqrt() * s["inv_sqrt_correction2"] + s["eps"]
    return m * s["inv_correction1"] / denominator + s["weight_decay"] * p


def lamb(p: Tensor, g: Tensor, states: States, s: Scalars) -> tuple[Tensor, States]:
    """LAMB (arXiv 1904.00962): Adam's direction, scaled by |p| / |direction| per tensor."""
    m = s["beta1"] * states[0] + s["beta1_rest"] * g
    v = s["beta2"] * states[1] + s["beta2_rest"] * (g * g)
    direction = lamb_direction(p, m, v, s)
    return p - s["lr"] * lamb_ratio(_norm(p), _norm(direction), s) * direction, (m, v)


def lamb_ratio(p_norm: float, direction_norm: float, s: Scalars) -> float:
    """|p| / |direction|, at most max_trust (0: no limit); 1 where either norm is 0."""
    ratio = p_norm / direction_norm if p_norm > 0 and direction_norm > 0 else 1.0
    return min(ratio, s["max_trust"]) if s["max_trust"] > 0 else ratio


def lars(p: Tensor, g: Tensor, states: States, s: Scalars) -> tuple[Tensor, States]:
    """LARS (arXiv 1708.03888): momentum over gradients that are scaled by the layer's trust ratio."""
    local = s["lr"] * lars_ratio(_norm(p), _norm(g), s)
    step = local * (g + s["weight_decay"] * p)
    m = s["momentum"] * states[0] + s["gradient_weight"] * step
    return p - (step + s["momentum"] * m if s["nesterov"] else m), (m,)


def lars_ratio(p_norm: float, g_norm: float, s: Scalars) -> float:
    """trust_coefficient |p| / (|g| + wd |p| + eps), at most max_trust (0: no limit); 1 where either norm is 0."""
    ratio = 1.0
    if p_norm > 0 and g_norm > 0:
        ratio = s["trust_coefficient"] * p_norm / (g_norm + s["weight_decay"] * p_norm + s["eps"])
    return min(ratio, s["max_trust"]) if s["max_trust"] > 0 else ratio


def _norm(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x.double()))


def ademamix(p: Tensor, g: Tensor, states: States, s: Scalars) -> tuple[Tensor, States]:
    """AdEMAMix (arXiv 2409.03137): a fast and a slow running mean of the gradient."""
    fast = s["beta1"] * states[0] + s["beta1_rest"] * g
    slow = s["beta3"] * states[1] + s["beta3_rest"] * g
    v = s["beta2"] * states[2] + s["beta2_rest"] * (g * g)
    denominator = v.sqrt() * s["inv_sqrt_correction2"] + s["eps"]
    mixed = fast * s["inv_correction1"] + s["alpha"] * slow
    return p * s["keep"] - s["lr"] * mixed / denominator, (fast, slow, v)


def adan(p: Tensor, g: Tensor, states: States, s: Scalars) -> tuple[Tensor, States]:
    """Adan (arXiv 2208.06677); has_previous is 0 on the first step, whose gradient difference is 0."""
    d = (g - states[3]) * s["has_previous"]
    m = s["beta1"] * states[0] + s["beta1_rest"] * g
    dv = s["beta2"] * states[1] + s["beta2_rest"] * d
    look = g + s["beta2"] * d
    n = s["beta3"] * states[2] + s["beta3_rest"] * (look * look)
    denominator = n.sqrt() * s["inv_sqrt_correction3"] + s["eps"]
    mixed = m * s["inv_correction1"] + s["beta2"] * (dv * s["inv_correction2"])
    return (p * s["keep"] - s["lr"] * mixed / denominator) * s["shrink"], (m, dv, n, g)


def adadelta(p: Tensor, g: Tensor, states: States, s: Scalars) -> tuple[Tensor, States]:
    """Adadelta (arXiv 1212.5701): a step is as long as steps were, over what gradients were."""
    g = g + s["weight_decay"] * p
    v = s["rho"] * states[0] + s["rho_rest"] * (g * g)
    delta = (states[1] + s["eps"]).sqrt() / (v + s["eps"]).sqrt() * g
    return p - s["lr"] * delta, (v, s["rho"] * states[1] + s["rho_rest"] * (delta * delta))


def adamax(p: Tensor, g: Tensor, states: States, s: Scalars) -> tuple[Tensor, States]:
    """Adamax (arXiv 1412.6980, section 7): the largest gradient so far, which fades, divides."""
    g = g + s["weight_decay"] * p
    m = s["beta1"] * states[0] + s["beta1_rest"] * g
    largest = torch.maximum(s["beta2"] * states[1], g.abs() + s["eps"])
    return p - s["step_size"] * m / largest, (m, largest)


def rprop(p: Tensor, g: Tensor, states: States, s: Scalars) -> tuple[Tensor, States]:
    """Rprop (Riedmiller and Braun 1993); of the gradient before only its sign is kept, 0 where it was ignored."""
    sign = (g > 0).to(g.dtype) - (g < 0).to(g.dtype)
    same = ((g > 0) & (states[0] > 0)) | ((g < 0) & (states[0] < 0))
    turned = ((g > 0) & (states[0] < 0)) | ((g < 0) & (states[0] > 0))
    grown, shrunk = states[1] * s["eta_plus"], states[1] * s["eta_minus"]
    size = torch.where(same, grown, torch.where(turned, shrunk, states[1]))
    size = size.clamp(s["least"], s["most"])
    sign = torch.where(turned, 0.0, sign)
    return p - sign * size, (sign, size)


def asgd(p: Tensor, g: Tensor, states: States, s: Scalars) -> tuple[Tensor, States]:
    """Averaged SGD (Polyak and Juditsky 1992); the average is the parameter itself while share is 1."""
    g = g + s["weight_decay"] * p
    p = p * s["keep"] - s["lr"] * g
    return p, (p if s["share"] == 1 else states[0] + s["share"] * (p - states[0]),)


def schedule_free_adamw(p: Tensor, g: Tensor, states: States, s: Scalars) -> tuple[Tensor, States]:
    """Schedule-free AdamW (arXiv 2405.15682): p is y, where gradients are taken; z takes the whole steps."""
    v = s["beta2"] * states[0] + s["beta2_rest"] * (g * g)
    u = g / (v.sqrt() * s["inv_sqrt_correction2"] + s["eps"]) + s["weight_decay"] * p
    return _schedule_free(p, states[1], u, s, (v,))


def schedule_free_sgd(p: Tensor, g: Tensor, states: States, s: Scalars) -> tuple[Tensor, States]:
    """Schedule-free SGD (arXiv 2405.15682)."""
    return _schedule_free(p, states[0], g + s["weight_decay"] * p, s, ())


def _schedule_free(y: Tensor, z: Tensor, u: Tensor, s: Scalars, states: States) -> tuple[Tensor, States]:
    """y + mix (z - y) - y_step u and z - lr u, with y_step = lr (1 - beta (1 - mix)): x is never formed."""
    return y + s["mix"] * (z - y) - s["y_step"] * u, (*states, z - s["lr"] * u)


_ADAM = ("grad_scale", "beta1", "beta1_rest", "beta2", "beta2_rest")
_DECAY = ("eps", "weight_decay", "keep")
_SCHEDULE_FREE = ("weight_decay", "lr", "y_step", "mix")
_RMSPROP = ("grad_scale", "lr", "alpha", "alpha_rest", "eps", "weight_decay", "momentum")
_M, _V = State("exp_avg", True, relative=True), State("exp_avg_sq", False)
_BUFFER, _SQUARE = State("momentum_buffer", True), State("square_avg", False)
_MEAN = State("grad_avg", True, relative=True)
_Z = State("z", True, exact=True)

SPECS: dict[Rule, RuleSpec] = {
    Rule.SGD: RuleSpec((), ("grad_scale", "lr", "weight_decay"), sgd),
    Rule.MOMENTUM: RuleSpec(
        (_BUFFER,), ("grad_scale", "lr", "momentum", "gradient_weight", "weight_decay", "nesterov"), momentum
    ),
    Rule.ADAM: RuleSpec((_M, _V), (*_ADAM, "step_size", "inv_sqrt_correction2", *_DECAY), adam),
    Rule.AMSGRAD: RuleSpec(
        (_M, _V, State("max_exp_avg_sq", False)), (*_ADAM, "step_size", "inv_sqrt_correction2", *_DECAY), amsgrad
    ),
    Rule.NADAM: RuleSpec((_M, _V), (*_ADAM, "gradient_step", "momentum_step", "inv_sqrt_correction2", *_DECAY), nadam),
    Rule.RADAM: RuleSpec((_M, _V), (*_ADAM, "step_size", "adaptive", *_DECAY), radam),
    Rule.ADAGRAD: RuleSpec((State("sum", False),), ("grad_scale", "step_size", "eps", "weight_decay"), adagrad),
    Rule.RMSPROP: RuleSpec((_SQUARE,), _RMSPROP, _rmsprop(False, False)),
    Rule.RMSPROP_MOMENTUM: RuleSpec((_SQUARE, _BUFFER), _RMSPROP, _rmsprop(False, True)),
    Rule.RMSPROP_CENTERED: RuleSpec((_SQUARE, _MEAN), _RMSPROP, _rmsprop(True, False)),
    Rule.RMSPROP_CENTERED_MOMENTUM: RuleSpec((_SQUARE, _MEAN, _BUFFER), _RMSPROP, _rmsprop(True, True)),
    Rule.LION: RuleSpec(
        (State("exp_avg", True),), ("grad_scale", "lr", "beta1", "beta1_rest", "beta2", "beta2_rest", "keep"), lion
    ),
    Rule.LAMB: RuleSpec(
        (_M, _V),
        (*_ADAM, "inv_correction1", "inv_sqrt_correction2", "eps", "weight_decay", "lr", "max_trust"),
        lamb,
    ),
    Rule.LARS: RuleSpec(
        (_BUFFER,),
        (
            *("grad_scale", "lr", "momentum", "gradient_weight", "weight_decay"),
            *("trust_coefficient", "eps", "nesterov", "max_trust"),
        ),
        lars,
    ),
    Rule.ADEMAMIX: RuleSpec(
        (_M, State("exp_avg_slow", True, slow=True), _V),
        (*_ADAM, "beta3", "beta3_rest", "alpha", "inv_correction1", "inv_sqrt_correction2", "eps", "lr", "keep"),
        ademamix,
    ),
    Rule.ADAN: RuleSpec(
        (
            _M,
            State("exp_avg_diff", True, relative=True),
            _V,
            State("previous_grad", True, relative=True),
        ),
        (
            *(*_ADAM, "beta3", "beta3_rest", "inv_correction1", "inv_correction2", "inv_sqrt_correction3"),
            *("eps", "lr", "keep", "shrink", "has_previous"),
        ),
        adan,
    ),
    Rule.ADADELTA: RuleSpec(
        (_SQUARE, State("acc_delta", False)), ("grad_scale", "lr", "rho", "rho_rest", "eps", "weight_decay"), adadelta
    ),
    Rule.ADAMAX: RuleSpec(
        (_M, State("exp_inf", False)),
        ("grad_scale", "beta1", "beta1_rest", "beta2", "step_size", "eps", "weight_decay"),
        adamax,
    ),
    Rule.RPROP: RuleSpec(
        (State("prev", True), State("step_size", False)),
        ("grad_scale", "eta_minus", "eta_plus", "least", "most"),
        rprop,
    ),
    Rule.ASGD: RuleSpec((State("ax", True, exact=True),), ("grad_scale", "lr", "share", "weight_decay", "keep"), asgd),
    Rule.SCHEDULE_FREE_ADAMW: RuleSpec(
        (_V, _Z),
        (*("grad_scale", "beta2", "beta2_rest", "inv_sqrt_correction2", "eps"), *_SCHEDULE_FREE),
        schedule_free_adamw,
    ),
    Rule.SCHEDULE_FREE_SGD: RuleSpec((_Z,), ("grad_scale", *_SCHEDULE_FREE), schedule_free_sgd),
}
