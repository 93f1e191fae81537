# SPDX-License-Identifier: Apache-2.0
"""Several optimizers for one model, each for the parameters that its case claims: Bop for signs, Adam for the rest."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bittern.optim.bayes_binn import BayesBiNN
from bittern.optim.groups import param_groups

Claim = Callable[[str, nn.Module, Tensor], bool]
"""(full name, module that holds it, parameter) -> whether a case takes it."""
Schedule = Callable[[int, int], float]
"""(step, total steps) -> factor of the learning rate."""


@dataclass(frozen=True, slots=True)
class Case:
    """An optimizer and the parameters that are its own.

    optimizer: called as optimizer(groups, lr=lr), e.g. a class or a partial of one. claims: which parameters, e.g.
    `nn.is_latent_free`; None: all that no other case claims. lr: None is the one for all. schedule: of its rate, in
    `train.train`; None is the recipe's.
    """

    optimizer: Callable[..., torch.optim.Optimizer]
    claims: Claim | None = None
    lr: float | None = None
    schedule: Schedule | None = None


@dataclass(frozen=True, slots=True, repr=False, init=False)
class Cases:
    """What `train.Recipe(optimizer=...)` takes for several optimizers: `Cases(Case(Bop, ...), Case(Adam))`.

    Raises: ValueError without a case, and for two with claims=None.
    """

    cases: tuple[Case, ...]

    def __init__(self, *cases: Case) -> None:
        if not cases or sum(case.claims is None for case in cases) > 1:
            raise ValueError(
                f"Cases: at least one case, and claims=None for one at most; got {len(cases)} cases, "
                f"{sum(case.claims is None for case in cases)} with None"
            )
        object.__setattr__(self, "cases", cases)

    def __call__(
        self, groups: Sequence[Mapping[str, Any]] | None = None, lr: float = 1e-3, *, model: nn.Module
    ) -> CaseOptimizer:
        """The optimizer of a model. groups: its parameters with their options; None: `param_groups(model)`."""
        return CaseOptimizer(model, self.cases, lr, groups)

    def __repr__(self) -> str:
        """The same in every process, for runs that go on."""
        return f"Cases({', '.join(_words(case) for case in self.cases)})"


class CaseOptimizer(torch.optim.Optimizer):
    """One torch optimizer that hands every parameter to the case that claims it.

    `param_groups` are those of all cases, in their order; states, state_dict, schedulers and hooks are as of one
    optimizer. `members` are the cases' own. With a BayesBiNN among them, `step` takes a closure, and the others step by
    the mean gradient over its samples.
    Errors: ValueError for a parameter that two cases claim, or none, by its name, and for a case that claims none.
    """

    def __init__(
        self,
        model: nn.Module,
        cases: Sequence[Case],
        lr: float = 1e-3,
        groups: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        given = list(param_groups(model) if groups is None else groups)
        split = _split(model, cases, given)
        super().__init__([{**group, "params": list(group["params"])} for group in given], {"lr": lr})
        members, schedules = [], []
        for case, own in zip(cases, split, strict=True):
            if own:
                member = case.optimizer(own, lr=lr if case.lr is None else case.lr)
                members.append(member)
                schedules += [case.schedule] * len(member.param_groups)
        self.members: tuple[torch.optim.Optimizer, ...] = tuple(members)
        self.schedules: tuple[Schedule | None, ...] = tuple(schedules)
        """One for each of `param_groups`; None: that of all."""
        self.state = _States(self.members)  # type: ignore[assignment]
        self._join()

    @property
    def draws_samples(self) -> bool:
        """Whether a step evaluates the model itself, by a closure."""
        return any(isinstance(member, BayesBiNN) for member in self.members)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every member; returns the closure's loss, the mean where it is called for several samples."""
        drawing = [member for member in self.members if isinstance(member, BayesBiNN)]
        if len(drawing) > 1:
            raise ValueError("CaseOptimizer: one BayesBiNN at most, which draws all samples; give it several groups")
        others = [member for member in self.members if not isinstance(member, BayesBiNN)]
        if drawing:
            mean = _MeanGradients(others)
            loss = drawing[0].step(None if closure is None else mean.around(closure))
            mean.put_in_place()
        elif closure is not None:
            with torch.enable_grad():
                loss = closure()
        else:
            loss = None
        for member in others:
            member.step()
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Only while it is made. Raises: RuntimeError later."""
        if hasattr(self, "members"):
            raise RuntimeError("CaseOptimizer: groups belong to its cases; make a new one of the changed model")
        super().add_param_group(param_group)

    def eval(self) -> None:
        """The weights to judge, of members that have two modes."""
        for member in self.members:
            if hasattr(member, "eval"):
                member.eval()

    def train(self) -> None:
        """The weights to train, of members that have two modes."""
        for member in self.members:
            if hasattr(member, "train"):
                member.train()

    def state_dict(self) -> dict[str, Any]:
        """One state_dict in torch's form; parameters are numbered in the order of `param_groups`."""
        state: dict[Any, Any] = {}
        groups: list[dict[str, Any]] = []
        first = 0
        for member in self.members:
            own = member.state_dict()
            state |= {first + number: value for number, value in own["state"].items()}
            # without the empty group behind, by which SGD and others refuse to be loaded by torch's own classes
            real = own["param_groups"][: len(member.param_groups)]
            groups += [{**group, "params": [first + number for number in group["params"]]} for group in real]
            first += sum(len(g["params"]) for g in member.param_groups)
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Each member loads its part; where one refuses, nothing has changed. Raises: as the members; ValueError."""
        groups = list(state_dict["param_groups"])
        sizes = [len(group["params"]) for group in groups]
        here = [len(group["params"]) for group in self.param_groups]
        if sizes != here:
            raise ValueError(f"CaseOptimizer: the state_dict has groups of {sizes} parameters, this one of {here}")
        before = [copy.deepcopy(member.state_dict()) for member in self.members]
        try:
            first = 0
            for member in self.members:
                own, groups = groups[: len(member.param_groups)], groups[len(member.param_groups) :]
                count = sum(len(group["params"]) for group in own)
                member.load_state_dict(_part(state_dict["state"], own, first, count))
                first += count
        except BaseException:
            for member, old in zip(self.members, before, strict=True):
                member.load_state_dict(old)
            raise
        finally:
            self._join()

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("CaseOptimizer: it is neither copied nor pickled; make another one and load its state_dict")

    def _join(self) -> None:
        self.param_groups = [group for member in self.members for group in member.param_groups]


class _States(Mapping[Tensor, Any]):
    """The states of all members, as they are at the moment."""

    def __init__(self, members: Sequence[torch.optim.Optimizer]) -> None:
        self._members = members

    def __getitem__(self, p: Tensor) -> Any:
        for member in self._members:
            if p in member.state:
                return member.state[p]
        raise KeyError(p)

    def __iter__(self) -> Iterator[Tensor]:
        return (p for member in self._members for p in member.state)

    def __len__(self) -> int:
        return sum(len(member.state) for member in self._members)


class _MeanGradients:
    """The mean over several calls of a closure of gradients that each call computes anew."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.params = [p for o in optimizers for group in o.param_groups for p in group["params"]]
        self.sums: dict[Tensor, Tensor] = {}
        self.calls = 0

    def around(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        def call() -> Any:
            loss = closure()
            self.calls += 1
            for p in self.params:
                if p.grad is not None:
                    self.sums[p] = self.sums[p] + p.grad if p in self.sums else p.grad.clone()
            return loss

        return call

    def put_in_place(self) -> None:
        for p, total in self.sums.items():
            p.grad = total / self.calls


def _split(model: nn.Module, cases: Sequence[Case], groups: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
    """The groups of each case. Raises: ValueError for a parameter that two cases claim, or none."""
    known: dict[Tensor, tuple[str, nn.Module]] = {}
    for path, module in model.named_modules():
        for name, p in module.named_parameters(recurse=False):
            known.setdefault(p, (f"{path}.{name}" if path else name, module))
    rest = next((i for i, case in enumerate(cases) if case.claims is None), None)
    owners: dict[Tensor, int] = {}
    for p in (p for group in groups for p in group["params"]):
        if p not in known:
            raise ValueError(f"CaseOptimizer: a parameter {list(p.shape)} of the groups is none of the model's")
        name, module = known[p]
        found = [i for i, case in enumerate(cases) if case.claims is not None and case.claims(name, module, p)]
        if len(found) > 1:
            both = " and ".join(f"case {i} ({_words(cases[i])})" for i in found)
            raise ValueError(f"CaseOptimizer: parameter {name!r} is claimed by {both}; one optimizer may move it")
        if not found and rest is None:
            raise ValueError(
                f"CaseOptimizer: parameter {name!r} is claimed by none of {len(cases)} cases; add a Case with "
                "claims=None, which takes the rest, or freeze it"
            )
        owners[p] = found[0] if found else rest  # type: ignore[assignment]
    unused = [i for i in range(len(cases)) if i not in owners.values() and cases[i].claims is not None]
    if unused:
        raise ValueError(
            f"CaseOptimizer: case {unused[0]} ({_words(cases[unused[0]])}) claims no parameter of the model; leave it "
            "out, or give it the layers that it is for"
        )
    split = [[{**g, "params": [p for p in g["params"] if owners[p] == i]} for g in groups] for i in range(len(cases))]
    return [[group for group in own if group["params"]] for own in split]


def _part(states: Mapping[Any, Any], groups: Sequence[Mapping[str, Any]], first: int, count: int) -> dict[str, Any]:
    """The state_dict of one member, out of that of all."""
    numbers = {number: place for place, number in enumerate(n for group in groups for n in group["params"])}
    assert len(numbers) == count
    return {
        "state": {numbers[number]: value for number, value in states.items() if number in numbers},
        "param_groups": [{**group, "params": [numbers[n] for n in group["params"]]} for group in groups],
    }


def _words(value: Any) -> str:
    """An object in words that hold no address."""
    if isinstance(value, Case):
        parts = [_words(value.optimizer), "rest" if value.claims is None else _words(value.claims)]
        parts += [f"{key}={_words(v)}" for key, v in (("lr", value.lr), ("schedule", value.schedule)) if v is not None]
        return f"Case({', '.join(parts)})"
    if isinstance(value, functools.partial):
        options = [_words(a) for a in value.args] + [f"{k}={_words(v)}" for k, v in sorted(value.keywords.items())]
        return f"{_words(value.func)}({', '.join(options)})"
    named = getattr(value, "__qualname__", None)
    return f"{value.__module__}.{named}" if named is not None else repr(value)
