# SPDX-License-Identifier: Apache-2.0
"""The update rules in Triton, in the order of rules.py: one function per family.

A rule gets the parameter, the gradient, its states and a pointer to its scalars, and returns the new parameter and
states. `launch` forbids contraction, and roots and quotients are correctly rounded, so that each operation rounds as
in the reference.
"""

from __future__ import annotations

from typing import Any

from bittern.ops._triton import tl, triton
from bittern.ops.optimizer_step.rules import Rule

SGD: Any = tl.constexpr(int(Rule.SGD))
MOMENTUM: Any = tl.constexpr(int(Rule.MOMENTUM))
ADAM: Any = tl.constexpr(int(Rule.ADAM))
AMSGRAD: Any = tl.constexpr(int(Rule.AMSGRAD))
NADAM: Any = tl.constexpr(int(Rule.NADAM))
RADAM: Any = tl.constexpr(int(Rule.RADAM))
ADAGRAD: Any = tl.constexpr(int(Rule.ADAGRAD))
RMSPROP: Any = tl.constexpr(int(Rule.RMSPROP))
RMSPROP_MOMENTUM: Any = tl.constexpr(int(Rule.RMSPROP_MOMENTUM))
RMSPROP_CENTERED: Any = tl.constexpr(int(Rule.RMSPROP_CENTERED))
RMSPROP_CENTERED_MOMENTUM: Any = tl.constexpr(int(Rule.RMSPROP_CENTERED_MOMENTUM))
LION: Any = tl.constexpr(int(Rule.LION))
LAMB: Any = tl.constexpr(int(Rule.LAMB))
LARS: Any = tl.constexpr(int(Rule.LARS))
ADEMAMIX: Any = tl.constexpr(int(Rule.ADEMAMIX))
ADAN: Any = tl.constexpr(int(Rule.ADAN))
ADADELTA: Any = tl.constexpr(int(Rule.ADADELTA))
ADAMAX: Any = tl.constexpr(int(Rule.ADAMAX))
RPROP: Any = tl.constexpr(int(Rule.RPROP))
ASGD: Any = tl.constexpr(int(Rule.ASGD))
SCHEDULE_FREE_ADAMW: Any = tl.constexpr(int(Rule.SCHEDULE_FREE_ADAMW))


@triton.jit
def _sgd(p, g, m, c, RULE: tl.constexpr):  # type: ignore[no-untyped-def]
    """lr, weight_decay; or lr, momentum, gradient_weight, weight_decay, nesterov."""
    lr = tl.load(c + 1)
    if RULE == SGD:
        p = p - lr * (g + tl.load(c + 2) * p)
    else:
        momentum, weight = tl.load(c + 2), tl.load(c + 3)
        g = g + tl.load(c + 4) * p
        m = momentum * m + weight * g
        p = p - lr * tl.where(tl.load(c + 5) != 0, g + momentum * m, m)
    return p, m


@triton.jit
def _adam(p, g, m, v, largest, c, RULE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Adam, AMSGrad, NAdam and RAdam: they differ in what is divided by what."""
    g = g + tl.load(c + (9 if RULE == NADAM else 8)) * p
    m = tl.load(c + 1) * m + tl.load(c + 2) * g
    v = tl.load(c + 3) * v + tl.load(c + 4) * (g * g)
    p = p * tl.load(c + (10 if RULE == NADAM else 9))
    if RULE == RADAM:
        denominator = tl.where(tl.load(c + 6) != 0, tl.sqrt_rn(v) + tl.load(c + 7), 1.0)
        p = p - tl.div_rn(tl.load(c + 5) * m, denominator)
    elif RULE == NADAM:
        denominator = tl.sqrt_rn(v) * tl.load(c + 7) + tl.load(c + 8)
        p = p - tl.div_rn(tl.load(c + 5) * g + tl.load(c + 6) * m, denominator)
    else:
        if RULE == AMSGRAD:
            largest = tl.maximum(largest, v)
        denominator = tl.sqrt_rn(largest if RULE == AMSGRAD else v) * tl.load(c + 6) + tl.load(c + 7)
        p = p - tl.div_rn(tl.load(c + 5) * m, denominator)
    return p, m, v, largest


@triton.jit
def _rmsprop(p, g, v, s1, s2, c, CENTERED: tl.constexpr, HEAVY: tl.constexpr):  # type: ignore[no-untyped-def]
    """States: square_avg, then grad_avg if centered, then momentum_buffer if heavy."""
    alpha, rest = tl.load(c + 2), tl.load(c + 3)
    g = g + tl.load(c + 5) * p
    v = alpha * v + rest * (g * g)
    variance = v
    if CENTERED:
        s1 = alpha * s1 + rest * g
        variance = tl.maximum(v - s1 * s1, 0.0)
    scaled = tl.div_rn(g, tl.sqrt_rn(variance) + tl.load(c + 4))
    if HEAVY:
        scaled = tl.load(c + 6) * (s2 if CENTERED else s1) + scaled
        if CENTERED:
            s2 = scaled
        else:
            s1 = scaled
    return p - tl.load(c + 1) * scaled, v, s1, s2


@triton.jit
def _lion(p, g, m, c):  # type: ignore[no-untyped-def]
    """The sign of 0 is 0."""
    mixed = tl.load(c + 2) * m + tl.load(c + 3) * g
    direction = tl.where(mixed > 0, 1.0, 0.0) - tl.where(mixed < 0, 1.0, 0.0)
    m = tl.load(c + 4) * m + tl.load(c + 5) * g
    return p * tl.load(c + 6) - tl.load(c + 1) * direction, m


@triton.jit
def lamb_direction(p, g, m, v, c):  # type: ignore[no-untyped-def]
    """LAMB's update before the trust ratio, and the new states."""
    m = tl.load(c + 1) * m + tl.load(c + 2) * g
    v = tl.load(c + 3) * v + tl.load(c + 4) * (g * g)
    denominator = tl.sqrt_rn(v) * tl.load(c + 6) + tl.load(c + 7)
    return tl.div_rn(m * tl.load(c + 5), denominator) + tl.load(c + 8) * p, m, v


@triton.jit
def _lars(p, g, m, c, ratio):  # type: ignore[no-untyped-def]
    momentum = tl.load(c + 2)
    step = tl.load(c + 1) * ratio * (g + tl.load(c + 4) * p)
    m = momentum * m + tl.load(c + 3) * step
    return p - tl.where(tl.load(c + 7) != 0, step + momentum * m, m), m


@triton.jit
def _ademamix(p, g, fast, slow, v, c):  # type: ignore[no-untyped-def]
    fast = tl.load(c + 1) * fast + tl.load(c + 2) * g
    slow = tl.load(c + 5) * slow + tl.load(c + 6) * g
    v = tl.load(c + 3) * v + tl.load(c + 4) * (g * g)
    denominator = tl.sqrt_rn(v) * tl.load(c + 9) + tl.load(c + 10)
    mixed = fast * tl.load(c + 8) + tl.load(c + 7) * slow
    return p * tl.load(c + 12) - tl.div_rn(tl.load(c + 11) * mixed, denominator), fast, slow, v


@triton.jit
def _adan(p, g, m, dv, n, previous, c):  # type: ignore[no-untyped-def]
    beta2 = tl.load(c + 3)
    d = (g - previous) * tl.load(c + 14)
    m = tl.load(c + 1) * m + tl.load(c + 2) * g
    dv = beta2 * dv + tl.load(c + 4) * d
    look = g + beta2 * d
    n = tl.load(c + 5) * n + tl.load(c + 6) * (look * look)
    denominator = tl.sqrt_rn(n) * tl.load(c + 9) + tl.load(c + 10)
    mixed = m * tl.load(c + 7) + beta2 * (dv * tl.load(c + 8))
    p = (p * tl.load(c + 12) - tl.div_rn(tl.load(c + 11) * mixed, denominator)) * tl.load(c + 13)
    return p, m, dv, n, g


@triton.jit
def _adadelta(p, g, v, moved, c):  # type: ignore[no-untyped-def]
    rho, rest, eps = tl.load(c + 2), tl.load(c + 3), tl.load(c + 4)
    g = g + tl.load(c + 5) * p
    v = rho * v + rest * (g * g)
    delta = tl.div_rn(tl.sqrt_rn(moved + eps), tl.sqrt_rn(v + eps)) * g
    return p - tl.load(c + 1) * delta, v, rho * moved + rest * (delta * delta)


@triton.jit
def _adamax(p, g, m, largest, c):  # type: ignore[no-untyped-def]
    g = g + tl.load(c + 6) * p
    m = tl.load(c + 1) * m + tl.load(c + 2) * g
    largest = tl.maximum(tl.load(c + 3) * largest, tl.abs(g) + tl.load(c + 5))
    return p - tl.div_rn(tl.load(c + 4) * m, largest), m, largest


@triton.jit
def _rprop(p, g, before, size, c):  # type: ignore[no-untyped-def]
    sign = tl.where(g > 0, 1.0, 0.0) - tl.where(g < 0, 1.0, 0.0)
    agreed = sign * (tl.where(before > 0, 1.0, 0.0) - tl.where(before < 0, 1.0, 0.0))
    factor = tl.where(agreed > 0, tl.load(c + 2), tl.where(agreed < 0, tl.load(c + 1), 1.0))
    size = tl.minimum(tl.maximum(size * factor, tl.load(c + 3)), tl.load(c + 4))
    sign = tl.where(agreed < 0, 0.0, sign)
    return p - sign * size, sign, size


@triton.jit
def _asgd(p, g, average, c):  # type: ignore[no-untyped-def]
    share = tl.load(c + 2)
    g = g + tl.load(c + 3) * p
    p = p * tl.load(c + 4) - tl.load(c + 1) * g
    return p, tl.where(share == 1, p, average + share * (p - average))


@triton.jit
def _schedule_free(y, z, u, c):  # type: ignore[no-untyped-def]
    """u without the decay; c: that of weight_decay, lr, y_step, mix."""
    u = u + tl.load(c) * y
    y = y + tl.load(c + 3) * (z - y) - tl.load(c + 2) * u
    return y, z - tl.load(c + 1) * u


@triton.jit
def _schedule_free_adamw(y, g, v, z, c):  # type: ignore[no-untyped-def]
    v = tl.load(c + 1) * v + tl.load(c + 2) * (g * g)
    u = tl.div_rn(g, tl.sqrt_rn(v) * tl.load(c + 3) + tl.load(c + 4))
    y, z = _schedule_free(y, z, u, c + 5)
    return y, v, z


@triton.jit
def apply_rule(p, g, s0, s1, s2, s3, c, ratio, RULE: tl.constexpr):  # type: ignore[no-untyped-def]
    """New parameter and states; c: the scalars; ratio: the trust ratio, where the rule has one."""
    if RULE == SGD or RULE == MOMENTUM:  # noqa: SIM109 - Triton has no `in`
        p, s0 = _sgd(p, g, s0, c, RULE)
    elif RULE == ADAM or RULE == AMSGRAD or RULE == NADAM or RULE == RADAM:  # noqa: SIM109
        p, s0, s1, s2 = _adam(p, g, s0, s1, s2, c, RULE)
    elif RULE == ADAGRAD:
        g = g + tl.load(c + 3) * p
        s0 = s0 + g * g
        p = p - tl.div_rn(tl.load(c + 1) * g, tl.sqrt_rn(s0) + tl.load(c + 2))
    elif RULE == RMSPROP:
        p, s0, s1, s2 = _rmsprop(p, g, s0, s1, s2, c, False, False)
    elif RULE == RMSPROP_MOMENTUM:
        p, s0, s1, s2 = _rmsprop(p, g, s0, s1, s2, c, False, True)
    elif RULE == RMSPROP_CENTERED:
        p, s0, s1, s2 = _rmsprop(p, g, s0, s1, s2, c, True, False)
    elif RULE == RMSPROP_CENTERED_MOMENTUM:
        p, s0, s1, s2 = _rmsprop(p, g, s0, s1, s2, c, True, True)
    elif RULE == LION:
        p, s0 = _lion(p, g, s0, c)
    elif RULE == LAMB:
        direction, s0, s1 = lamb_direction(p, g, s0, s1, c)
        p = p - tl.load(c + 9) * ratio * direction
    elif RULE == LARS:
        p, s0 = _lars(p, g, s0, c, ratio)
    elif RULE == ADEMAMIX:
        p, s0, s1, s2 = _ademamix(p, g, s0, s1, s2, c)
    elif RULE == ADAN:
        p, s0, s1, s2, s3 = _adan(p, g, s0, s1, s2, s3, c)
    elif RULE == ADADELTA:
        p, s0, s1 = _adadelta(p, g, s0, s1, c)
    elif RULE == ADAMAX:
        p, s0, s1 = _adamax(p, g, s0, s1, c)
    elif RULE == RPROP:
        p, s0, s1 = _rprop(p, g, s0, s1, c)
    elif RULE == ASGD:
        p, s0 = _asgd(p, g, s0, c)
    elif RULE == SCHEDULE_FREE_ADAMW:
        p, s0, s1 = _schedule_free_adamw(p, g, s0, s1, c)
    else:
        p, s0 = _schedule_free(p, s0, g, c + 1)
    return p, s0, s1, s2, s3


@triton.jit
def trust_ratio(p_norm, norm, c, RULE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Of float32 norms; 1 where either is 0; at most max_trust, of which 0 is none."""
    there = (p_norm > 0) & (norm > 0)
    if RULE == LAMB:
        most = tl.load(c + 10)
        ratio = tl.div_rn(p_norm, tl.where(there, norm, 1.0))
    else:
        most = tl.load(c + 8)
        below = norm + tl.load(c + 4) * p_norm + tl.load(c + 6)
        ratio = tl.div_rn(tl.load(c + 5) * p_norm, tl.where(there, below, 1.0))
    ratio = tl.where(there, ratio, 1.0)
    return tl.where((most > 0) & (ratio > most), most, ratio)
