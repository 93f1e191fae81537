# SPDX-License-Identifier: Apache-2.0
"""optimizer_step beside the agreement test: torch.optim's steps, bad gradients, dead parameters, threads, errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from _log_cases import LogStep, check_log_step, log_steps, random_square_steps
from _step_cases import Step, check_step, copied, scalars_of, steps
from _together import run_all
from _tolerance import assert_elementwise, assert_exact
from bittern import ops
from bittern.ops.optimizer_step import SPECS, PreparedStep, Rule, block_count, state_table
from bittern.optim._shards import trust_ratio

RULES = list(Rule)
MAGNITUDES = (Rule.ADAMAX, Rule.RPROP)
"""Rules whose unsigned state is no square."""
STEPS = list(steps())
DRAW = torch.Generator().manual_seed(5)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_reference_follows_the_formula(step: Step) -> None:
    check_step(step.make(), ops.optimizer_step.reference)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_instruction_sets_agree_bit_for_bit(step: Step) -> None:
    arguments = step.make()
    first, *others = [copied(arguments) for _ in ops.available_isas()]
    ops.optimizer_step.native(ops.Isa.SCALAR, *first)
    for isa, other in zip(ops.available_isas()[1:], others, strict=True):
        ops.optimizer_step.native(isa, *other)
        for mine, theirs in zip(first, other, strict=True):
            for a, b in zip(mine, theirs, strict=True) if isinstance(mine, list) else ():
                if isinstance(a, Tensor):
                    assert_exact(b, a)


@pytest.mark.parametrize("step", [*log_steps(), *random_square_steps()], ids=str)
def test_states_rounded_at_random_are_those_of_the_reference(step: LogStep) -> None:
    arguments = step.make()
    for isa in ops.available_isas():
        check_log_step(arguments, partial(ops.optimizer_step.native, isa))


# ---- torch.optim


def torch_case(rule: Rule, t: int) -> tuple[Callable[[list[Tensor]], torch.optim.Optimizer], Tensor]:
    """torch's optimizer for a rule, and the rule's scalars at step t (from 1)."""
    o, lr, b1, b2, wd = torch.optim, 0.01, 0.9, 0.99, 0.1
    adam = {"step_size": lr / (1 - b1**t), "inv_sqrt_correction2": (1 - b2**t) ** -0.5, "eps": 1e-8}
    common: dict[str, Any] = {"grad_scale": 1.0, "lr": lr, "weight_decay": wd, "keep": 1.0, "eps": 1e-8}
    if rule == Rule.SGD:
        return lambda p: o.SGD(p, lr, weight_decay=wd), scalars_of(rule, **common)
    if rule == Rule.MOMENTUM:
        changed = {"gradient_weight": 1.0, "momentum": b1, "nesterov": 1.0}
        return lambda p: o.SGD(p, lr, b1, nesterov=True, weight_decay=wd), scalars_of(rule, **common | changed)
    if rule == Rule.ADAM:
        return lambda p: o.Adam(p, lr, (b1, b2), weight_decay=wd), scalars_of(rule, **common | adam)
    if rule == Rule.AMSGRAD:
        decoupled = {"weight_decay": 0.0, "keep": 1 - lr * wd}
        return (
            lambda p: o.AdamW(p, lr, (b1, b2), weight_decay=wd, amsgrad=True),
            scalars_of(rule, **common | adam | decoupled),
        )
    if rule == Rule.NADAM:
        mus = [b1 * (1 - 0.5 * 0.96 ** (k * 0.004)) for k in range(1, t + 2)]
        product = torch.tensor(mus[:t], dtype=torch.float64).prod().item()
        sizes = {
            "gradient_step": lr * (1 - mus[t - 1]) / (1 - product),
            "momentum_step": lr * mus[t] / (1 - product * mus[t]),
        }
        return lambda p: o.NAdam(p, lr, (b1, b2), weight_decay=wd), scalars_of(rule, **common | adam | sizes)
    if rule == Rule.RADAM:
        limit = 2 / (1 - b2) - 1
        rho = limit - 2 * t * b2**t / (1 - b2**t)
        step_size = lr / (1 - b1**t)
        if rho > 5:
            rect = ((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho)) ** 0.5
            step_size *= rect * (1 - b2**t) ** 0.5
        changed = {"step_size": step_size, "adaptive": float(rho > 5)}
        return lambda p: o.RAdam(p, lr, (b1, b2), weight_decay=wd), scalars_of(rule, **common | changed)
    if rule == Rule.ADAGRAD:
        return lambda p: o.Adagrad(p, lr, weight_decay=wd), scalars_of(rule, **common | {"step_size": lr, "eps": 1e-10})
    if rule == Rule.ADADELTA:
        changed = {"lr": 0.5, "rho": 0.8, "rho_rest": 0.2, "eps": 1e-5}
        return lambda p: o.Adadelta(p, 0.5, 0.8, 1e-5, wd), scalars_of(rule, **common | changed)
    if rule == Rule.ADAMAX:
        return lambda p: o.Adamax(p, lr, (b1, b2), 1e-8, wd), scalars_of(rule, **common | adam)
    if rule == Rule.ASGD:
        eta = lr / (1 + 0.1 * lr * (t - 1)) ** 0.75
        changed = {"lr": eta, "share": 1 / max(1, t - 4), "keep": 1 - 0.1 * eta}
        return lambda p: o.ASGD(p, lr, 0.1, 0.75, 3, wd), scalars_of(rule, **common | changed)
    heavy, centered = rule.name.endswith("MOMENTUM"), "CENTERED" in rule.name
    changed = {"alpha": 0.99, "alpha_rest": 0.01, "momentum": 0.9, "eps": 1e-4}
    return (
        lambda p: o.RMSprop(p, lr, weight_decay=wd, eps=1e-4, momentum=0.9 if heavy else 0.0, centered=centered),
        scalars_of(rule, **common | changed),
    )


TORCH = [*(r for r in RULES if r < Rule.LION), Rule.ADADELTA, Rule.ADAMAX, Rule.ASGD]


@pytest.mark.parametrize("rule", TORCH, ids=lambda r: r.name.lower())
def test_float32_states_step_as_torch_optim_does(rule: Rule) -> None:
    n, spec = 321, SPECS[rule]
    mine = torch.randn(n, generator=DRAW)
    theirs = mine.clone().requires_grad_()
    states = [torch.zeros(n) for _ in spec.states]
    empty = [torch.empty(0)] * len(states)
    optimizer = None
    for t in range(1, 13):
        grad = torch.randn(n, generator=DRAW)
        make, scalars = torch_case(rule, t)
        optimizer = optimizer or make([theirs])
        theirs.grad = grad.clone()
        optimizer.step()
        ops.optimizer_step(int(rule), [mine], [grad], states, empty, scalars, [32], [256], [n], [])
        assert_elementwise(mine, theirs.detach().double(), 32 * t, theirs.detach().abs().double() + 1)


# ---- elements that must not move, or must not explode


def run_adam(grads: list[Tensor], bits: int = 8, rule: Rule = Rule.ADAM, lr: float = 1e-2) -> Tensor:
    """Parameter after one step per gradient, from 0."""
    n, spec = grads[0].numel(), SPECS[rule]
    p = torch.zeros(n)
    if bits == 32:
        states, absmax = [torch.zeros(n) for _ in spec.states], [torch.empty(0) for _ in spec.states]
    else:
        tables = [state_table(state.signed, bits) for state in spec.states]
        zero = [int((table == 0).nonzero()[0]) if (table == 0).any() else 0 for table in tables]
        bytes_, value = (n, 1) if bits == 8 else (n // 2, 17)  # a nibble twice
        states = [torch.full((bytes_,), z * value, dtype=torch.uint8) for z in zero]
        absmax = [torch.zeros(block_count(n, 256, n)) for _ in spec.states]
        exact = [k for k, state in enumerate(spec.states) if state.exact]
        for k in exact:
            states[k], absmax[k] = torch.zeros(n), torch.empty(0)
    for t, grad in enumerate(grads, 1):
        changed = {"step_size": lr / (1 - 0.9**t), "inv_sqrt_correction2": (1 - 0.99**t) ** -0.5, "lr": lr}
        changed |= {"weight_decay": 0.0, "keep": 1.0, "shrink": 1.0, "grad_scale": 1.0, "eps": 1e-8}
        scalars = scalars_of(rule, **changed)
        ops.optimizer_step(int(rule), [p], [grad], states, absmax, scalars, [bits], [256], [n], [])
    return p


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name.lower())
def test_a_parameter_without_gradient_never_moves(rule: Rule, bits: int) -> None:
    dead = torch.arange(512) % 2 == 0
    grads = [torch.randn(512, generator=DRAW).masked_fill(dead, 0.0) for _ in range(20)]
    assert (run_adam(grads, bits, rule)[dead] == 0).all()


def test_a_small_second_moment_does_not_explode() -> None:
    """Gradients over eight decades: the plain nearest rule stores 0 for small squares, and the step is m / eps."""
    scale = torch.logspace(-8, 0, 512)
    grads = [torch.randn(512, generator=DRAW) * scale for _ in range(50)]
    moved, exact = run_adam(grads), run_adam(grads, 32)
    assert float(moved.abs().max()) < 3 * float(exact.abs().max())


@pytest.mark.parametrize("rule", RULES)
def test_an_element_with_a_bad_gradient_is_skipped(rule: Rule) -> None:
    """3e38 is finite, but not its square: rules with a square skip it."""
    has_square = not all(state.signed for state in SPECS[rule].states) and rule not in MAGNITUDES
    bads = (float("nan"), float("inf"), -float("inf"), *((3e38,) if has_square else ()))
    run_all({f"{bad}, {bits} bits": partial(_check_bad, rule, bad, bits) for bad in bads for bits in (32, 8, 4)})


def _check_bad(rule: Rule, bad: float, bits: int) -> None:
    arguments = Step(rule, bits, (300,)).make()
    spoiled = copied(arguments)
    spoiled[2][0][17] = bad
    before = copied(spoiled)
    ops.optimizer_step(*spoiled)
    assert spoiled[1][0][17] == before[1][0][17]
    assert all(x.isfinite().all() for x in (*spoiled[1], *spoiled[4]))
    if bits == 32:
        assert all(
            now[17] == then[17] and now.isfinite().all() for now, then in zip(spoiled[3], before[3], strict=True)
        )
    ops.optimizer_step(*arguments)
    same = torch.arange(300) != 17
    if rule not in (Rule.LAMB, Rule.LARS):  # whose ratio sees every element
        assert_exact(spoiled[1][0][same], arguments[1][0][same])


def test_threads_do_not_change_the_result() -> None:
    """One thread measures and steps the first tensor before the others; more threads take all together."""
    kept = torch.get_num_threads()
    try:
        for rule in (Rule.ADAM, Rule.LAMB, Rule.LARS):
            arguments = Step(rule, 8, (530_000, 3, 40_001)).make()
            results = [copied(arguments) for _ in range(3)]
            for count, mine in enumerate(results, 1):
                torch.set_num_threads(count)
                ops.optimizer_step(*mine)
            for other in results[1:]:
                for a, b in zip((*results[0][1], *results[0][3]), (*other[1], *other[3]), strict=True):
                    assert_exact(b, a)
    finally:
        torch.set_num_threads(kept)


def test_prepared_step_is_the_op_and_rows_of_scalars_count() -> None:
    arguments = Step(Rule.ADAM, 8, (300, 65)).make()
    rule, params, grads, states, absmax, scalars, *layout, _ = arguments
    two = torch.cat([scalars, scalars * 0.5])
    expected = copied(arguments)
    ops.optimizer_step(*expected[:5], two, *expected[6:])
    PreparedStep(Rule(rule), params, states, absmax, *layout).run(grads, two)
    for mine, theirs in zip((*params, *states, *absmax), (*expected[1], *expected[3], *expected[4]), strict=True):
        assert_exact(mine, theirs)


def test_parameters_in_another_memory_order() -> None:
    """Codes lie in the order of memory, so channels-last steps as its flat memory does."""
    arguments = Step(Rule.ADAM, 8, (4 * 3 * 5 * 6,)).make()
    shaped = copied(arguments)
    for values in (shaped[1], shaped[2], shaped[3]):
        values[:] = [x.as_strided((4, 3, 5, 6), (90, 1, 18, 3)) for x in values]
    ops.optimizer_step(*arguments)
    ops.optimizer_step(*shaped)
    assert shaped[1][0].is_contiguous(memory_format=torch.channels_last)
    assert_exact(shaped[1][0].permute(0, 2, 3, 1).reshape(-1), arguments[1][0])


# ---- errors


def changed(at: int, value: Any) -> tuple[Any, ...]:
    arguments = list(Step(Rule.ADAM, 8, (300,)).make())
    arguments[at] = value
    return tuple(arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (changed(0, 99), "rule must be a Rule"),
        (changed(1, [torch.zeros(300, dtype=torch.float64)]), "parameter must be float32"),
        (changed(1, [torch.zeros(600)[::2]]), "parameter must be dense"),
        (changed(2, [torch.zeros(299)]), "gradient must have the shape"),
        (changed(2, [torch.zeros(600)[::2]]), "gradient must have the strides"),
        (changed(2, [torch.zeros(300, dtype=torch.int32)]), "gradient must be float32"),
        (changed(2, []), "grads must have 1 entries"),
        (changed(3, [torch.zeros(300)] * 2), "state 'exp_avg' must be torch.uint8"),
        (changed(3, [torch.zeros(299, dtype=torch.uint8)] * 2), "state 'exp_avg' must be"),
        (changed(4, [torch.zeros(1)] * 2), "absmax of 'exp_avg' must be"),
        (changed(5, torch.zeros(1, 3)), "scalars must be float32"),
        (changed(5, torch.zeros(1, 10, dtype=torch.float64)), "scalars must be float32"),
        (changed(6, [16]), "bits must be 32, 8 or 4"),
        (changed(7, [100]), "block_size must be a power of two"),
        (changed(7, [8192]), "block_size must be a power of two"),
        (changed(8, [7]), "row_length must divide"),
        (changed(9, [torch.zeros(299)]), "compensation must be like"),
    ],
)
def test_bad_arguments_name_the_tensor_and_the_rule(arguments: tuple[Any, ...], message: str) -> None:
    before = copied(arguments)
    with pytest.raises((ValueError, TypeError), match=message):
        ops.optimizer_step(*arguments)
    for a, b in zip(arguments[1], before[1], strict=True):
        assert_exact(a, b)


def test_prepared_step_counts_gradients_and_scalars() -> None:
    rule, params, grads, states, absmax, scalars, *layout, _ = Step(Rule.ADAM, 8, (300, 65)).make()
    prepared = PreparedStep(Rule(rule), params, states, absmax, *layout)
    before = [p.clone() for p in params]
    for bad_grads, bad_scalars, message in (
        (grads[:1], scalars, "needs 2 gradients"),
        ([*grads, grads[0]], scalars, "needs 2 gradients"),
        (grads, scalars[:, :3], "scalars must be float32"),
        (grads, scalars.double(), "scalars must be float32"),
        (grads, scalars.expand(3, -1), "scalars must be float32"),
    ):
        with pytest.raises(ValueError, match=message):
            prepared.run(bad_grads, bad_scalars)
    for p, old in zip(params, before, strict=True):
        assert_exact(p, old)


def test_a_parameter_given_twice_is_refused() -> None:
    rule, params, grads, states, absmax, scalars, *layout, seed = Step(Rule.ADAM, 8, (300, 300)).make()
    with pytest.raises(ValueError, match="given twice"):
        ops.optimizer_step(rule, [params[0]] * 2, grads, states, absmax, scalars, *layout, seed)


@pytest.mark.parametrize("rule", [Rule.LAMB, Rule.LARS])
def test_norms_of_shards_give_the_step_of_the_whole(rule: Rule) -> None:
    """Two halves of a tensor, stepped with the ratio of both, are the tensor stepped at once; measuring is no step."""
    step = Step(rule, 8, (2048,), block=256)
    whole, halves = step.make(), step.make()
    _, params, grads, states, absmax, scalars, *layout, _, _ = whole
    PreparedStep(rule, params, states, absmax, *layout).run(grads, scalars)
    _, params, grads, states, absmax, scalars, *_ = halves
    before = params[0].clone()
    parts = []
    for k in range(2):
        half, blocks = slice(1024 * k, 1024 * (k + 1)), slice(4 * k, 4 * (k + 1))
        mine = [x[half] for x in states], [x[blocks] for x in absmax]
        parts.append((PreparedStep(rule, [params[0][half]], *mine, [8], [256], [1024]), [grads[0][half]]))
    squares = [prepared.measure(grad, scalars) for prepared, grad in parts]
    assert torch.equal(params[0], before)
    assert squares[0].shape == (1, 2)
    assert squares[0].dtype == torch.float64
    ratio = trust_ratio(rule, torch.stack(squares).sum(0).sqrt().float(), scalars)
    for prepared, grad in parts:
        prepared.run(grad, scalars, ratios=ratio)
    torch.testing.assert_close(params[0], whole[1][0], rtol=1e-6, atol=1e-7)
    assert all(torch.equal(a, b) for a, b in zip(states, whole[3], strict=True))


def test_what_has_no_norms_and_ratios_of_another_shape() -> None:
    rule, params, grads, states, absmax, scalars, *layout, _, _ = Step(Rule.ADAM, 8, (300,)).make()
    prepared = PreparedStep(Rule(rule), params, states, absmax, *layout)
    with pytest.raises(ValueError, match="only LAMB and LARS have norms to measure; got ADAM"):
        prepared.measure(grads, scalars)
    with pytest.raises(ValueError, match=r"ratios must be float32 \[1\]; got torch.float64 \[2\]"):
        prepared.run(grads, scalars, ratios=torch.ones(2, dtype=torch.float64))
