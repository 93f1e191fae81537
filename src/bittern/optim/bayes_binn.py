# SPDX-License-Identifier: Apache-2.0
"""BayesBiNN (arXiv 2002.10778): a Bernoulli distribution over signs, moved by natural gradients of relaxed samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Unpack

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from bittern.ops._random import random32
from bittern.ops.optimizer_step import State
from bittern.optim._batch import state_seed
from bittern.optim._layout import first_element, layout_for, local_tensor
from bittern.optim._optimizer import LowBitOptimizer, ParamsT
from bittern.optim._options import Group, Number, Options, check_not_negative, scalar
from bittern.optim._running_mean import moved_mean
from bittern.optim._state import StateDict, check_dense

_NATURAL = State("natural", True, exact=True)
_PRIOR = State("prior", True, exact=True)
_MOMENTUM = State("momentum_buffer", True)
_EPS = 1e-10
"""Added to both variances of s, as in the authors' code."""
_GOLDEN = 0x9E3779B97F4A7C15
"""2^64 / golden ratio: spreads neighbouring seeds."""


class BayesBiNN(LowBitOptimizer):
    """BayesBiNN: each weight is +1 with chance sigmoid(2 lambda); lambda is the state `natural`, float32.

    A step, for a mean loss L over a batch, whose gradient is taken at samples w_k, k = 1 ... samples:
        w_k = tanh((lambda + delta_k) / temperature), delta_k = log(u / (1 - u)) / 2, u uniform in (0, 1)
        s_k = (1 - w_k^2 + e) / (temperature (1 - tanh(lambda)^2 + e)), e = 1e-10
        m <- momentum m + (1 - momentum) (train_set_size mean_k(s_k dL/dw_k) + kl_weight (lambda - prior))
        lambda <- lambda - lr m / (1 - momentum^t)
    `step(closure)` puts each sample into the parameters and calls the closure, which computes the loss and its
    gradients; behind it, and before the first, the parameters hold the weights to judge: sign(lambda), which packs
    (evaluate="sign"), or tanh(lambda) ("mean"; `binary.SignWeights(relaxed=True)`). samples=0 takes one gradient at
    tanh(lambda), with s = 1.
    lambda starts at `strength` times the sign of the parameter; the authors draw these signs at random. prior is 0
    until `keep_as_prior()` puts lambda there, for the next task. `momentum_buffer` takes state_bits where momentum > 0.
    seed: of the samples, with the step and the place of the parameter; None: that of `torch.manual_seed`.
    train_set_size: examples behind the posterior; the authors count CIFAR-10 ten times, for its augmentation.
    Differences: the authors' code computes 1 - tanh(lambda)^2 in float32, where it is 0 from |lambda| = 9 on, and with
    the lambda of the step before; here from e^-2|lambda|, and of this step. sign(0) = +1 here, -1 there. They have all
    parameters in one group.
    Further keyword arguments: see `LowBitOptimizer`.
    Errors: RuntimeError for a step without closure; ValueError for arguments out of range, rounding, offload, 4 bits.
    Source: arXiv 2002.10778; team-approx-bayes/BayesBiNN optimizers/BayesBiNN.py.
    """

    def __init__(
        self,
        params: ParamsT,
        train_set_size: int,
        lr: Number = 1e-4,
        momentum: float = 0.0,
        *,
        samples: int = 1,
        temperature: float = 1e-10,
        strength: float = 10.0,
        kl_weight: float = 1.0,
        evaluate: Literal["sign", "mean"] = "sign",
        seed: int | None = None,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "train_set_size": train_set_size,
            "lr": lr,
            "momentum": momentum,
            "samples": samples,
            "temperature": temperature,
            "strength": strength,
            "kl_weight": kl_weight,
            "evaluate": evaluate,
            "seed": torch.initial_seed() % 2**63 if seed is None else seed,
            "weight_decay": weight_decay,
            "has_prior": False,
        }
        super().__init__(params, defaults, options)

    def check_group(self, group: Group) -> None:
        check_not_negative("BayesBiNN", group, "lr", "kl_weight", "seed")
        for name, least in (("train_set_size", 1), ("samples", 0)):
            value = group[name]
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"BayesBiNN: {name} must be a whole number of at least {least}; got {value!r}")
        for name in ("temperature", "strength"):
            if not group[name] > 0.0:
                raise ValueError(f"BayesBiNN: {name} must be above 0; got {group[name]}")
        if not 0.0 <= group["momentum"] < 1.0:
            raise ValueError(f"BayesBiNN: momentum must be in [0, 1); got {group['momentum']}")
        if group["evaluate"] not in ("sign", "mean"):
            raise ValueError(f'BayesBiNN: evaluate must be "sign" or "mean"; got {group["evaluate"]!r}')
        if group["weight_decay"] != 0:
            raise ValueError(f"BayesBiNN: weight_decay must be 0; use kl_weight; got {group['weight_decay']}")
        if group["state_bits"] == 4 or any(layout_for(p, group).bits == 4 for p in group["params"]):
            raise ValueError("BayesBiNN: state_bits must be 32 or 8; got 4")
        for name, only in (("rounding", "nearest"), ("offload", None)):
            if group[name] != only:
                raise ValueError(f"BayesBiNN: {name} must be {only!r}; got {group[name]!r}")

    def states(self, group: Group) -> tuple[State, ...]:
        momentum = (_MOMENTUM,) if group["momentum"] > 0 else ()
        return (_NATURAL, *momentum, *((_PRIOR,) if group["has_prior"] else ()))

    def initial(self, name: str, p: Tensor, group: Group) -> float | Tensor:
        if name != "natural":
            return 0.0
        return _signs(local_tensor(p.detach()).float()) * float(group["strength"])

    def update(self, key: Any, group: Group, params: Sequence[Tensor]) -> None:
        raise RuntimeError("BayesBiNN: a step draws weights before their gradient is computed; call step(closure)")

    @_disable_dynamo
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step from `samples` calls of the closure, which zeroes gradients, computes a loss and its gradients.

        Returns the mean of the losses. Where the closure raises, nothing has changed.
        Errors: RuntimeError without closure, FloatingPointError under nonfinite="raise".
        """
        if closure is None or self.steps_in_backward:
            raise RuntimeError("BayesBiNN: it draws weights before their gradient is computed; call step(closure)")
        counts = {group["samples"] for group in self.param_groups}
        if len(counts) > 1:
            raise ValueError(f"BayesBiNN: all groups must have the same number of samples; got {sorted(counts)}")
        calls = max(1, counts.pop())
        kept = [(p, p.detach().clone()) for group in self.param_groups for p in group["params"]]
        places = [(group, p, self.state_of(p, group)) for group in self.param_groups for p in group["params"]]
        sums: dict[Tensor, Tensor] = {}
        losses = []
        try:
            for call in range(calls):
                scales = {p: self._draw(p, group, state, call) for group, p, state in places}
                with torch.enable_grad():
                    losses.append(closure())
                self._gather(sums, scales)
        except BaseException:
            for p, before in kept:
                p.copy_(before)
            raise
        for group, p, state in places:
            if p in sums:
                self._move(p, group, state, sums[p] / calls)
            self._judge(p, group, state)
        return sum(losses) / calls

    @torch.no_grad()
    def keep_as_prior(self) -> None:
        """Makes the present distribution the prior of what comes next, of every parameter."""
        for group in self.param_groups:
            group["has_prior"] = True
            for p in group["params"]:
                state = self.state_of(p, group)
                state["prior"] = state["natural"].clone()

    def means(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every parameter with the mean tanh(lambda) of its signs."""
        for group in self.param_groups:
            for p in group["params"]:
                yield p, torch.tanh(self.state_of(p, group)["natural"])

    def _draw(self, p: Tensor, group: Group, state: StateDict, call: int) -> Tensor:
        """Puts a sample into p; returns s."""
        local, natural = local_tensor(p.detach()), local_tensor(state["natural"])
        if not group["samples"]:
            local.copy_(torch.tanh(natural))
            torch.autograd.graph.increment_version(p)
            return torch.ones_like(natural)
        temperature = float(group["temperature"])
        draw = int(state["step"]) * group["samples"] + call
        where = int(state_seed(draw, self.number_of(p))) + first_element(p) + group["seed"] * _GOLDEN
        random = random32(where % 2**64, torch.arange(natural.numel(), device=natural.device)).view(natural.shape)
        chance = (random.double() + 0.5) * 2.0**-32
        z = (natural + 0.5 * torch.logit(chance).float()) / temperature
        local.copy_(torch.tanh(z))
        torch.autograd.graph.increment_version(p)
        return (_variance(z) + _EPS) / (temperature * (_variance(natural) + _EPS))

    def _gather(self, sums: dict[Tensor, Tensor], scales: dict[Tensor, Tensor]) -> None:
        """Adds s dL/dw of one sample."""
        check_dense("BayesBiNN", list(scales))
        for p, scale in scales.items():
            if p.grad is not None:
                found = local_tensor(p.grad).float() * scale
                sums[p] = sums[p] + found if p in sums else found
        for group in self.param_groups if any(g["nonfinite"] == "raise" for g in self.param_groups) else ():
            bad = [p for p in group["params"] if p in sums and not bool(sums[p].isfinite().all())]
            if bad and group["nonfinite"] == "raise":
                raise FloatingPointError(
                    f"BayesBiNN: the gradient of a parameter {list(bad[0].shape)} is not finite; nothing was changed "
                    '(nonfinite="skip" leaves such elements as they are)'
                )

    def _move(self, p: Tensor, group: Group, state: StateDict, gradient: Tensor) -> None:
        natural, momentum = local_tensor(state["natural"]), float(group["momentum"])
        prior = local_tensor(state["prior"]) if group["has_prior"] else 0.0
        toward = group["train_set_size"] * gradient + group["kl_weight"] * (natural - prior)
        good = toward.isfinite()
        toward = torch.where(good, toward, 0.0)
        state["step"] += 1
        rate = float(scalar(group["lr"]))
        if momentum:
            number = self.number_of(p)
            toward = moved_mean(p, state, _MOMENTUM, group, number=number, toward=toward, keep=momentum, good=good)
            rate /= 1.0 - momentum ** float(state["step"])
        natural.copy_(torch.where(good, natural - rate * toward, natural))

    def _judge(self, p: Tensor, group: Group, state: StateDict) -> None:
        """Puts the weights to judge into p."""
        natural = local_tensor(state["natural"])
        local_tensor(p.detach()).copy_(_signs(natural) if group["evaluate"] == "sign" else torch.tanh(natural))
        torch.autograd.graph.increment_version(p)


def _signs(x: Tensor) -> Tensor:
    return torch.where(x >= 0.0, 1.0, -1.0)


def _variance(z: Tensor) -> Tensor:
    """1 - tanh(z)^2, without the cancellation at large |z|."""
    e = torch.exp(-2.0 * z.abs())
    return 4.0 * e / (1.0 + e).square()
