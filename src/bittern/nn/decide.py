# SPDX-License-Identifier: Apache-2.0
"""What becomes of each layer of a model, and why: the plan that `convert` then carries out."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bittern.nn._copy import copied
from bittern.nn._frozen import FrozenLinear
from bittern.nn._probe import Example, arguments
from bittern.nn._watch import Watched, watch
from bittern.nn.activations import Activation, Swap, plan_swaps
from bittern.nn.binarize import LowBitLayer
from bittern.nn.keep import DEFAULT_KEEP, Candidate, Keep, Predicate, check_all_used, keep_rules, why_kept
from bittern.nn.plan import READ_THEIR_CHILDREN, Action, Plan, PlanRow, layers_of
from bittern.nn.rule import Answer, Rule, as_rule, check_answer, in_words, layer_class, why_not
from bittern.nn.substitutes import (
    PLAIN,
    Substitutes,
    has_hooks,
    is_conv1d_of_gpt,
    put_in_place,
    shared_weight,
    substitutes,
)
from bittern.quantizer import Method

_WITHOUT_COUNTERPART: tuple[type[nn.Module], ...] = (
    nn.modules.conv._ConvNd,
    nn.Bilinear,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)
"""Layers with weight matrices that stay as they are; listed in the plan so that nobody believes otherwise."""


class Prepared(NamedTuple):
    """A copy of a model with plain layers in it, and what becomes of each."""

    model: nn.Module
    plan: Plan
    answers: dict[str, Answer | None]
    """What each layer that is converted becomes."""
    swaps: tuple[Swap, ...]
    watched: Watched | None
    given: Substitutes


def plan_conversion(
    model: nn.Module,
    chosen: Method | Rule | None = None,
    *,
    keep: Keep | None = None,
    example: Example | None = None,
    activation: Activation | None = None,
) -> Plan:
    """Say what `convert` would do with each layer of `model`, without doing it.

    chosen: a method or a rule, as for `convert`; without it, every layer that can be converted is.
    keep, activation: see `convert`. example: with it, positions follow the forward pass, layers that it never calls or
    whose weight another module reads are kept, and shortcuts without stride are found.
    Raises: ValueError for a name or pattern in `keep` that matches no layer, and for an activation that swaps nothing;
    TypeError for a `keep`, an activation, a rule or an answer of it of another kind.
    """
    args = None if example is None else arguments("convert", example)
    return prepare(model, chosen, keep, args, activation).plan


def prepare(
    model: nn.Module,
    chosen: Method | Rule | None,
    keep: Keep | None,
    args: tuple[Tensor, ...] | None,
    activation: Activation | None,
) -> Prepared:
    """Copy `model`, put plain layers where they compute the same, look at one forward, and decide on every layer."""
    rule = None if chosen is None else as_rule("convert", chosen)
    rules = keep_rules("convert", (DEFAULT_KEEP if rule is None else ()) if keep is None else keep)
    model = copied(model)
    _call_all_layers(model)
    patterns = [entry for entry in rules if isinstance(entry, str)]
    given = substitutes(model, lambda name: any(fnmatchcase(name, pattern) for pattern in patterns))
    if args is not None and given.copies():
        given = given.without_read(watch_layers(model, args))
    model = put_in_place(model, {key: s.new for key, s in given.found.items()})
    watched = None if args is None else watch_layers(model, args)
    swaps = () if activation is None else plan_swaps("convert", model, activation)
    decider = _Decider(model, rules, rule, cast("Answer", chosen), watched, given)
    rows = decider.rows()
    plan = Plan((*rows, *map(_swap_row, swaps)), _notes(watched, swaps))
    return Prepared(model, plan, decider.answers, swaps, watched, given)


def _call_all_layers(model: nn.Module) -> None:
    """Let encoder layers of torch call their linear layers in eval mode too.

    There they may hand all their weights to one function instead, which would multiply by latent weights. The number
    asks for that function alone. Encoders may drop what is masked and call their layers with nested tensors, which no
    low-bit layer takes; in training they never do.
    """
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0


def watch_layers(model: nn.Module, args: tuple[Tensor, ...]) -> Watched:
    """What one forward pass of `model` does with the layers that can be converted."""
    return watch(model, args, (*PLAIN, LowBitLayer, FrozenLinear))


class _Decider:
    """Goes through the layers of a model once."""

    def __init__(
        self,
        model: nn.Module,
        rules: Sequence[str | Predicate],
        rule: Rule | None,
        method: Answer | None,
        watched: Watched | None,
        given: Substitutes,
    ) -> None:
        self.model, self.rules, self.rule, self.method = model, rules, rule, method
        self.watched, self.given = watched, given
        self.answers: dict[str, Answer | None] = {}
        kinds = (*PLAIN, LowBitLayer, FrozenLinear, *_WITHOUT_COUNTERPART)
        self.layers = layers_of(model, lambda module: isinstance(module, kinds) or is_conv1d_of_gpt(module))
        candidates = {id(module) for _, module in self.layers if isinstance(module, PLAIN)}
        order = [module for _, module in self.layers] if watched is None else watched.called.values()
        self.positions = {key: i for i, key in enumerate(id(m) for m in order if id(m) in candidates)}
        self._used: set[str] = set()

    def rows(self) -> tuple[PlanRow, ...]:
        """One row per layer that has a weight matrix; without an example all count as called, as registered."""
        rows = tuple(self._row(name, module) for name, module in self.layers)
        unused = [rule for rule in self.rules if isinstance(rule, str) and rule not in self._used]
        check_all_used("convert", unused, [row.name for row in rows])
        return rows

    def _row(self, name: str, module: nn.Module) -> PlanRow:
        patterns = [rule for rule in self.rules if isinstance(rule, str) and fnmatchcase(name, rule)]
        self._used.update(patterns)
        source = self.given.of(module)
        kind = type(source.old if source is not None else module).__name__
        action, reason = self._decide(name, module, patterns)
        notes = self._notes_on(module) if action is Action.CONVERT else ""
        return PlanRow(name, kind, _weight_shape(module), action, "; ".join(filter(None, (reason, notes))))

    def _decide(self, name: str, module: nn.Module, patterns: Sequence[str]) -> tuple[Action, str]:
        why = _no_counterpart(module) or self._inside_attention(name)
        if why:
            return Action.KEEP, self.given.reasons.get(id(module), why)
        otherwise = _used_otherwise(module, self.watched)
        if otherwise:
            return Action.KEEP, otherwise
        if id(module) in self.positions:
            bypass = self.watched is not None and id(module) in self.watched.bypasses
            candidate = Candidate(name, module, self.positions[id(module)], len(self.positions), bypass)
            kept = why_kept(self.rules, patterns, candidate)
        else:
            kept = f"keep: {patterns[0]}" if patterns else ""
        if kept:
            return Action.KEEP, kept
        answer = self.method if self.rule is None else self.rule(name, module)
        if self.rule is not None:
            check_answer("convert", name, answer)
            if answer is None:
                return Action.KEEP, "rule: None"
        problem = self._problem(module, answer)
        if problem:
            return Action.REFUSE, problem
        self.answers[name] = answer
        return Action.CONVERT, "" if self.rule is None else f"rule: {in_words(answer)}"

    def _problem(self, module: nn.Module, answer: Answer | None) -> str:
        problem = self.given.reasons.get(id(module)) or _problem(module) or why_not(answer, module)
        if not problem and layer_class(answer) is not None:
            problem = shared_weight(self.model, module)
        return problem

    def _inside_attention(self, name: str) -> str:
        parent = self._parent(name)
        if not isinstance(parent, READ_THEIR_CHILDREN):
            return ""
        return f"{type(parent).__name__} multiplies by its weight without calling it"

    def _parent(self, name: str) -> nn.Module | None:
        return self.model.get_submodule(name.rpartition(".")[0]) if name else None

    def _notes_on(self, module: nn.Module) -> str:
        """What a plan says of the plain layer that stands for another one."""
        source = self.given.of(module) or self.given.around(module)
        return "" if source is None else source.note


def _used_otherwise(module: nn.Module, watched: Watched | None) -> str:
    """Why the example shows that a low-bit layer would not, or not alone, do what `module` does; "" when it would."""
    if watched is None:
        return ""
    weight = module.weight
    readers = ", ".join(repr(name or "(model)") for name in watched.readers.get(id(weight), ()))
    if id(module) in watched.called:
        return f"{readers} reads its weight itself, which must stay real" if readers else ""
    return f"{readers} multiplies by its weight without calling it" if readers else "the example never calls it"


def _swap_row(swap: Swap) -> PlanRow:
    kind = type(swap.old).__name__
    if swap.new is None:
        return PlanRow(swap.name, kind, (), Action.KEEP, swap.reason)
    return PlanRow(swap.name, kind, (), Action.SWAP, f"becomes {type(swap.new).__name__}")


def _notes(watched: Watched | None, swaps: Sequence[Swap]) -> tuple[str, ...]:
    if watched is None:
        return ("without an example the order is that of registration, and every layer counts as called",)
    return functional_relus(watched) if swaps else ()


def functional_relus(watched: Watched) -> tuple[str, ...]:
    """One sentence per module whose forward calls a ReLU as a function, which no swap reaches."""
    return tuple(
        f"{name or '(model)'!r} calls {function}() as a function, which cannot be swapped; write it as an nn.ReLU"
        for name, function in watched.relus.items()
    )


def _no_counterpart(module: nn.Module) -> str:
    """Why a layer stays whatever is asked for; "" where it can be converted, or be refused."""
    if isinstance(module, LowBitLayer):
        return "it is low-bit already"
    if isinstance(module, FrozenLinear):
        return "it is frozen already"
    if not isinstance(module, PLAIN) and not is_conv1d_of_gpt(module):
        return f"{type(module).__name__} has no low-bit counterpart"
    return ""


def _problem(module: nn.Module) -> str:
    """Why a Conv1d, Conv2d or Linear cannot be converted as it is; "" when it can."""
    if any(is_lazy(p) for p in module.parameters()):
        return "it has no size yet; run the model once or give an example"
    if type(module) not in PLAIN:
        return f"class {type(module).__name__} may compute something else than its base"
    if has_hooks(module):
        return has_hooks(module)
    if "forward" in vars(module):
        return "its forward was replaced by another function, which would be lost; make a subclass of it"
    weight = module.weight
    assert isinstance(weight, Tensor)
    if weight.numel() == 0:
        return "its weight is empty"
    if not weight.is_meta and not bool(torch.isfinite(weight).all()):
        return f"its weight has {int((~torch.isfinite(weight)).sum())} NaN or infinite values"
    return ""


def _weight_shape(module: nn.Module) -> tuple[int, ...]:
    if isinstance(module, FrozenLinear):
        return module.out_features, module.in_features
    weight = getattr(module, "weight", None)
    return tuple(weight.shape) if isinstance(weight, Tensor) and not is_lazy(weight) else ()
