# SPDX-License-Identifier: Apache-2.0
"""The optimizer that only loops: groups, counters, states and checkpoints; the update itself is one native call.

A rule's class says which `Rule` it is and computes its scalars per step in double precision; everything else is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from bittern.ops.optimizer_step import State
from bittern.optim._batch import Batch
from bittern.optim._layout import layout_for, local_tensor
from bittern.optim._load import load
from bittern.optim._loaded import MOST_STEPS
from bittern.optim._names import for_torch_to_refuse, is_flattened, named_storages, to_memory
from bittern.optim._options import (
    ADDED,
    ROUNDING_OF_8_BITS,
    Group,
    Options,
    check_options,
    check_parameter,
    complete,
    settle_rounding,
)
from bittern.optim._state import StateDict, check_dense, check_finite, check_offload, conform, create, offload
from bittern.optim._torch import saved_state

ParamsT = Iterable[Any]


class LowBitOptimizer(torch.optim.Optimizer, ABC):
    """A torch optimizer whose states are stored in 32, 8 or 4 bits (block-wise dynamic codes, arXiv 2110.02861).

    Beside the arguments of its rule every optimizer takes, per group or for all:
    state_bits: 8, 4 or 32 (as torch.optim has it). block_size: elements per absmax, a power of two from 32 to 4096;
    None is 256 for 8 bits and 128 for 4. min_8bit_size: parameters with fewer elements keep 32-bit states.
    nonfinite: "skip" leaves an element whose gradient or new state is NaN or infinite as it is, with its states;
    "raise" refuses the whole step. rounding of bfloat16 and float16 parameters: "nearest"; "stochastic" (bfloat16;
    seeded by `torch.manual_seed`); "kahan" keeps the rounding error in a buffer of the parameter's type. It does not
    concern float32 parameters. state_rounding: None, which is "stochastic" for 4-bit states and "nearest" for those of
    8. "stochastic", by random bits of the step and the element: 4 bits have squares on a logarithmic scale and means
    relative to their roots (docs/optimizers.md), 8 bits their squares alone rounded so, to entries of the same table.
    "nearest": entries of a table (for 4 bits arXiv 2309.01507); squares stop falling where small and large curvatures
    meet. A group has it as state_rounding, of 4 bits, and state_rounding_8bit. offload="cpu": states of CUDA parameters
    live in pinned host memory, which the kernels read and write over the bus.

    A parameter that does not fill its memory (a strided slice) is stepped through a dense copy that stays allocated.
    Errors: TypeError for complex, sparse or float64 parameters, ValueError for invalid arguments.
    """

    counters: tuple[str, ...] = ("step",)
    """Names of the one-element float32 states that count steps, whatever the storage."""

    def __init__(self, params: ParamsT, defaults: dict[str, Any], options: Options) -> None:
        self._batches: dict[Any, Batch] = {}
        self._strides: dict[Tensor, tuple[int, ...]] = {}
        self._places: dict[Tensor, tuple[int, int]] = {}
        self.steps_in_backward = False
        self._calls = 0
        super().__init__(params, {**defaults, **complete(type(self).__name__, options)})

    whole_tensors: bool = False
    """Whether the update reads sums over a whole tensor."""

    @abstractmethod
    def states(self, group: Group) -> tuple[State, ...]:
        """The states that are stored in low bits, by name and sign."""

    @abstractmethod
    def check_group(self, group: Group) -> None:
        """Raises ValueError for invalid arguments of the rule."""

    @abstractmethod
    def update(self, key: Any, group: Group, params: Sequence[Tensor]) -> None:
        """One step of `params`, which all have a gradient; `key` names this set for caches."""

    def initial(self, name: str, p: Tensor, group: Group) -> float | Tensor:
        """The value that a state of `p` starts from, or its values in p's local shape."""
        return 0.0

    def stored_like(self, p: Tensor, group: Group) -> Tensor:
        """A tensor of the shape, device and memory order that the states of `p` have."""
        return p

    def further_states(self, p: Tensor) -> dict[str, int | None]:
        """States, all at least 0, that a checkpoint of `p` must hold beside `states` and `counters`.

        Each with the dimension of `p` over which it is a mean (`means_like`), None for none.
        """
        return {}

    def take_others(self, subject: str, p: Tensor, group: Group, found: dict[str, Any]) -> StateDict:
        """Takes out of a saved state what this rule may keep beside all that; ValueError for what no step could use."""
        return {}

    def adjust_loaded_state(self, group: Group, found: dict[str, Any]) -> None:
        """Corrects the state of a parameter that came from a checkpoint, before it is checked."""

    foreign_options: tuple[str, ...] = ()
    """Keys of groups in another package's checkpoints, for `adjust_loaded_state`, which do not stay."""

    def most_count(self, name: str) -> float:
        """The largest value of a counter in a checkpoint."""
        return MOST_STEPS if name == "step" else 1.0

    def lost_in_torch(self, states: Mapping[Any, Any]) -> bool:
        """Whether torch.optim would take such states of a state_dict and start some of them anew without a word."""
        return False

    @_disable_dynamo
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all parameters with a gradient; returns the closure's loss.

        Errors: RuntimeError for a sparse gradient, FloatingPointError for a gradient that is not finite under
        nonfinite="raise" (then nothing has changed), RuntimeError for a closure while the backward pass steps.
        """
        loss = None
        if closure is not None:
            if self.steps_in_backward:
                raise RuntimeError(f"{self._name}: fuse_into_backward steps in the backward pass; it takes no closure")
            with torch.enable_grad():
                loss = closure()
        strict = [p for group in self.param_groups if group["nonfinite"] == "raise" for p in group["params"]]
        for group in self.param_groups:
            check_dense(self._name, group["params"])
        if strict:
            check_finite(self._name, strict)
        for index, group in enumerate(self.param_groups):
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self.step_some(index, group, params)
        return loss

    def step_some(self, key: Any, group: Group, params: Sequence[Tensor]) -> None:
        """Steps `params` of one group, which all have a gradient; nonfinite="raise" has been seen to."""
        if params[0].is_cuda and torch.cuda.is_current_stream_capturing() and not group.get("capturable"):
            raise RuntimeError(
                f"{self._name}: a CUDA graph would repeat the scalars of this one step; got capturable=False while "
                "capturing; pass capturable=True"
            )
        check_dense(self._name, params)
        settle_rounding(group)
        self.update(key, group, params)

    def state_of(self, p: Tensor, group: Group) -> StateDict:
        """The state of `p`, created or brought to the group's storage and p's device and layout where necessary."""
        state: StateDict = self.state[p]
        if named_storages(state):  # ZeroRedundancyOptimizer puts the entries of a state_dict here itself
            renamed = to_memory(self._name, state)
            state.clear()
            state.update(renamed)
        if group["offload"] is not None:
            check_offload(self._name, p)
        like = self.stored_like(p, group)
        new = self.is_new(p, group)
        if new:
            create(state, like, self.states(group), group, lambda name: self.initial(name, p, group))
        else:
            conform(self._name, state, like, self.states(group), group, self._strides.get(p))
        for name in self.counters_of(p, group):  # what has a state has made a step, even if nobody counted it
            state.setdefault(name, torch.tensor(self.first_count(name) if new else 1.0, dtype=torch.float32))
        if group["offload"] is not None:
            offload(state, self.states(group))
        self._strides[p] = local_tensor(like).stride()
        return state

    def adjust_loaded(self, group: Group) -> None:
        """Corrects a group that came from a checkpoint."""

    def counters_of(self, p: Tensor, group: Group) -> tuple[str, ...]:
        """The names of `p`'s counters: a rule that needs none counts where 4 bits are rounded by the step's number."""
        if "step" in self.counters or not self.states(group) or not layout_for(p, group).logarithmic:
            return self.counters
        return ("step", *self.counters)

    def first_count(self, name: str) -> float:
        """The value of a counter before the first step."""
        return 0.0

    def is_new(self, p: Tensor, group: Group) -> bool:
        """Whether `p` lacks a state that the group needs."""
        state = to_memory(self._name, self.state.get(p, {}))
        return any(name not in state for name in (*(spec.name for spec in self.states(group)), *self.counters))

    def number_of(self, p: Tensor) -> int:
        """The place of a parameter among all of this optimizer: where it was last, if it still is there."""
        groups = self.param_groups
        group, place = self._places.get(p, (0, 0))
        here = groups[group]["params"] if group < len(groups) else ()
        if place >= len(here) or here[place] is not p:
            self._places = {q: (i, j) for i, g in enumerate(groups) for j, q in enumerate(g["params"])}
            group, place = self._places[p]
        return sum(len(g["params"]) for g in groups[:group]) + place

    @property
    def _name(self) -> str:
        return type(self).__name__

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Read by `torch.amp.GradScaler.step` before anything else."""
        if self.steps_in_backward:
            raise RuntimeError(
                f"{self._name}: fuse_into_backward applies gradients before GradScaler can unscale them; use bfloat16"
            )
        return False

    @_disable_dynamo
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch.optim; the group may override any argument of the constructor."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            settle_rounding(group)
            check_options(self._name, group)
            self.check_group(group)
            self._check_rounding(group)
            for p in group["params"]:
                check_parameter(self._name, p)
                self._check_flattened(p, group)
            if len(set(group["params"])) != len(group["params"]):
                twice = next(p for i, p in enumerate(group["params"]) if any(p is q for q in group["params"][:i]))
                raise ValueError(
                    f"{self._name}: a parameter may appear once in a group; got one of {list(twice.shape)} twice; "
                    "leave one out"
                )
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise

    def _check_rounding(self, group: Group) -> None:
        """ValueError for squares of 8 bits that are to be rounded at random where there are none."""
        of_8 = group[ROUNDING_OF_8_BITS]
        if of_8 == "stochastic" and group["state_bits"] == 8 and all(state.signed for state in self.states(group)):
            raise ValueError(
                f"{self._name}: of 8-bit states squares are rounded at random, and this rule has none; "
                f"got state_rounding={of_8!r}; leave it out"
            )

    def _check_flattened(self, p: Tensor, group: Group) -> None:
        """TypeError where FSDP1 holds pieces of `p` and the whole is needed: their groups of processes are unknown."""
        if not is_flattened(p) or torch.distributed.get_world_size() == 1:
            return
        if self.whole_tensors or group["nonfinite"] == "raise":
            what = "this rule" if self.whole_tensors else 'nonfinite="raise"'
            raise TypeError(f"{self._name}: {what} needs whole tensors; got a piece of FSDP1's; use fully_shard")

    def state_dict(self) -> dict[str, Any]:
        """As torch.optim; a quantized state is "<state>_8bit" or "<state>_4bit..." beside "<state>_absmax" (`_names`).

        States of FSDP1's flat parameters, which FSDP1 shards element by element, are decoded to float32.
        """
        return self.by_saved_names(self.memory_state_dict())

    def by_saved_names(self, result: dict[str, Any]) -> dict[str, Any]:
        """The dictionary of `memory_state_dict` as `state_dict` returns it."""
        places = zip(self.param_groups, result["param_groups"], strict=True)
        params = {
            n: self.stored_like(p, group)
            for group, saved in places
            for n, p in zip(saved["params"], group["params"], strict=True)
        }
        for group in result["param_groups"]:
            if group.get(ROUNDING_OF_8_BITS) == "nearest":
                del group[ROUNDING_OF_8_BITS]  # torch.distributed.checkpoint may want the keys of older files
        result["state"] = {
            number: saved_state(f"{self._name}: state {number}", state, params[number]) if number in params else state
            for number, state in result["state"].items()
        }
        return for_torch_to_refuse(result) if self.lost_in_torch(result["state"]) else result

    def memory_state_dict(self) -> dict[str, Any]:
        """The state_dict by the names in memory: codes under the name of their state.

        Counters are copies, so that the dictionary does not share one tensor among parameters. Offloaded states are
        waited for: a kernel may still be writing them to host memory.
        """
        offloaded = (group["params"] for group in self.param_groups if group.get("offload") is not None)
        for device in {p.device for params in offloaded for p in params if p.is_cuda}:
            torch.cuda.synchronize(device)
        result: dict[str, Any] = super().state_dict()
        for key, state in result["state"].items():
            names = {"step", *self.counters}
            counts = {
                name: value.clone() for name, value in state.items() if name in names and isinstance(value, Tensor)
            }
            result["state"][key] = {**state, **counts}
        return result

    @_disable_dynamo
    def load_state_dict(self, state_dict: Mapping[str, Any], *, requantize: bool = False) -> None:
        """Loads a copy of a state_dict of this package, torch.optim, bitsandbytes or torchao.

        Hyper-parameters come from the dictionary; how states are stored (state_bits, block_size, ...) stays as this
        optimizer was built. requantize=True converts states that were stored otherwise; without it they are a
        ValueError, as is all that a step could not use: other shapes, types, numbers of parameters or rules, missing
        states, values that are not finite, squares below 0. Everything is checked before anything changes.
        """
        load(self, state_dict, requantize=requantize)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "steps_in_backward": False, "_calls": self._calls}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in ADDED.items():
                group.setdefault(name, value)
        self._batches = {}
        self._strides = {}
        self._places = {}
