"""What a conversion would do with each layer of a model, and why: the plan that `convert` then carries out."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bittern.nn._probe import Example, arguments, run_once
from bittern.nn._table import text_table
from bittern.nn.binarize import LowBitLayer

CONVERTIBLE: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Linear)
"""Layers that have a low-bit counterpart."""

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

_READ_THEIR_CHILDREN: tuple[type[nn.Module], ...] = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
"""Modules that take the weights of their linear layers and multiply themselves, without calling those layers."""


class Candidate(NamedTuple):
    """A Conv1d, Conv2d or Linear, as a `keep` predicate sees it."""

    name: str
    """As in `named_modules`."""
    module: nn.Module
    position: int
    """0 ... total - 1: in the order in which the example reaches the layers; without example, of their registration."""
    total: int


Predicate = Callable[[Candidate], bool]
Keep = Predicate | Collection[str | Predicate]
"""Layers to keep: a predicate, or names, fnmatch patterns and predicates, any of which is enough."""


def first_and_last(candidate: Candidate) -> bool:
    """The first and the last layer, which nearly all papers keep in float."""
    return candidate.position in (0, candidate.total - 1)


class Action(Enum):
    """What a conversion does with a layer."""

    CONVERT = "convert"
    KEEP = "keep"
    REFUSE = "refuse"
    """The layer cannot be converted as it is: `convert` raises unless `keep` names it."""


class PlanRow(NamedTuple):
    """One layer of a plan."""

    name: str
    kind: str
    """Class name."""
    shape: tuple[int, ...]
    """Shape of its weight; () where it has none of that name or no size yet."""
    action: Action
    reason: str
    """Why it is kept or refused; "" where it is converted."""


@dataclass(frozen=True, repr=False)
class Plan:
    """What a conversion does with every layer that has a weight matrix; `print(plan)` shows a table."""

    rows: tuple[PlanRow, ...]

    def names(self, action: Action) -> tuple[str, ...]:
        """Names of the layers with this action."""
        return tuple(row.name for row in self.rows if row.action is action)

    def __str__(self) -> str:
        lines = [(r.name or "(model)", r.kind, str(list(r.shape)), r.action.value, r.reason) for r in self.rows]
        counts = ", ".join(f"{action.value} {len(self.names(action))}" for action in Action)
        return text_table(("layer", "kind", "weight", "action", "because"), lines) + f"\n{counts}"

    __repr__ = __str__


def plan_conversion(model: nn.Module, *, keep: Keep = first_and_last, example: Example | None = None) -> Plan:
    """Say what `convert` would do with each layer of `model`, without doing it.

    keep: see `convert`. example: with it, positions follow the forward pass, and layers that it never calls are kept.
    Raises: ValueError for a name or pattern in `keep` that matches no layer; TypeError for a `keep` of another kind.
    """
    rules = keep_rules(keep)
    if example is None:
        return make_plan(model, rules, None)
    model = copy.deepcopy(model)
    return make_plan(model, rules, reach(model, arguments("convert", example)))


def make_plan(model: nn.Module, rules: tuple[str | Predicate, ...], reached: list[nn.Module] | None) -> Plan:
    """The plan for `model`. reached: the layers that a forward pass calls, in its order; None: all, as registered."""
    layers = _weighted(model)
    candidates = {id(module) for _, module in layers if isinstance(module, CONVERTIBLE)}
    order = [module for _, module in layers] if reached is None else reached
    positions = {key: i for i, key in enumerate(id(m) for m in order if id(m) in candidates)}
    rows, used = [], set()
    for name, module in layers:
        patterns = [rule for rule in rules if isinstance(rule, str) and fnmatchcase(name, rule)]
        used.update(patterns)
        action, reason = _decide(module, _parent(model, name))
        if action is not Action.KEEP and id(module) not in positions:
            action, reason = Action.KEEP, "the example never calls it"
        elif action is not Action.KEEP:
            candidate = Candidate(name, module, positions[id(module)], len(positions))
            says_keep = [*patterns, *(_name(rule) for rule in rules if not isinstance(rule, str) and rule(candidate))]
            if says_keep:
                action, reason = Action.KEEP, f"keep: {says_keep[0]}"
        rows.append(PlanRow(name, type(module).__name__, _weight_shape(module), action, reason))
    _check_all_used([rule for rule in rules if isinstance(rule, str) and rule not in used], rows)
    return Plan(tuple(rows))


def reach(model: nn.Module, args: tuple[Tensor, ...]) -> list[nn.Module]:
    """The convertible layers of `model` in the order in which a forward pass first calls them."""
    reached: dict[int, nn.Module] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, (*CONVERTIBLE, LowBitLayer)):
            reached.setdefault(id(module), module)

    run_once(model, args, note)
    return list(reached.values())


def keep_rules(keep: Keep) -> tuple[str | Predicate, ...]:
    """`keep` as a tuple of patterns and predicates. Raises: TypeError."""
    if isinstance(keep, str):
        raise TypeError(f"convert: keep must be a collection of names; got the string {keep!r}; pass [{keep!r}]")
    if not callable(keep) and not isinstance(keep, Collection):
        raise TypeError(f"convert: keep must be a predicate or a collection of names and predicates; got {keep!r}")
    rules: tuple[str | Predicate, ...] = (keep,) if callable(keep) else tuple(keep)
    for rule in rules:
        if not isinstance(rule, str) and not callable(rule):
            raise TypeError(f"convert: keep takes names, patterns and predicates; got {rule!r}")
    return rules


def _weighted(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Layers with a weight matrix, each under its first name; those inside a low-bit layer's method are its own."""
    kinds: tuple[type[nn.Module], ...] = (*CONVERTIBLE, LowBitLayer, *_WITHOUT_COUNTERPART)
    found: list[tuple[str, nn.Module]] = []
    inside: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, LowBitLayer):
            inside.update(id(child) for child in module.modules() if child is not module)
        if id(module) not in inside and isinstance(module, kinds):
            found.append((name, module))
    return found


def _parent(model: nn.Module, name: str) -> nn.Module | None:
    return model.get_submodule(name.rpartition(".")[0]) if name else None


def _decide(module: nn.Module, parent: nn.Module | None) -> tuple[Action, str]:
    """What becomes of a layer that `keep` does not name."""
    kind = type(module).__name__
    if isinstance(module, LowBitLayer):
        return Action.KEEP, "it is low-bit already"
    if not isinstance(module, CONVERTIBLE):
        return Action.KEEP, f"{kind} has no low-bit counterpart"
    problem = _problem(module, parent)
    return (Action.REFUSE, problem) if problem else (Action.CONVERT, "")


def _problem(module: nn.Module, parent: nn.Module | None) -> str:
    """Why a Conv1d, Conv2d or Linear cannot be converted as it is; "" when it can."""
    kind = type(module).__name__
    if any(is_lazy(p) for p in module.parameters()):
        return "it has no size yet; run the model once or give an example"
    if isinstance(parent, _READ_THEIR_CHILDREN):
        return f"{type(parent).__name__} multiplies by its weight without calling it"
    if type(module) not in CONVERTIBLE:
        return f"class {kind} may compute something else than its base"
    if module._forward_hooks or module._forward_pre_hooks:
        return "its forward hooks would be lost; remove them first"
    weight = module.weight
    assert isinstance(weight, Tensor)
    if weight.numel() == 0:
        return "its weight is empty"
    if not weight.is_meta and not bool(torch.isfinite(weight).all()):
        return f"its weight has {int((~torch.isfinite(weight)).sum())} NaN or infinite values"
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        return _padding_problem(module)
    return ""


def _padding_problem(module: nn.Conv1d | nn.Conv2d) -> str:
    padding = conv_padding(module)
    if padding is None:
        return 'padding="same" is lopsided for this kernel; pad by a module of its own'
    if module.padding_mode != "zeros" and any(padding):
        return f"padding_mode={module.padding_mode!r} is not supported; pad by a module of its own"
    return ""


def conv_padding(module: nn.Conv1d | nn.Conv2d) -> tuple[int, ...] | None:
    """Padding of each space dimension, also where it is given as a word; None where the two sides differ."""
    if not isinstance(module.padding, str):
        return tuple(module.padding)
    if module.padding == "valid":
        return (0,) * len(module.kernel_size)
    totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    return None if any(total % 2 for total in totals) else tuple(total // 2 for total in totals)


def _weight_shape(module: nn.Module) -> tuple[int, ...]:
    weight = getattr(module, "weight", None)
    return tuple(weight.shape) if isinstance(weight, Tensor) and not is_lazy(weight) else ()


def _name(predicate: Predicate) -> str:
    return str(getattr(predicate, "__name__", predicate))


def _check_all_used(unused: list[str], rows: list[PlanRow]) -> None:
    if not unused:
        return
    name, names = unused[0], [row.name for row in rows]
    below = [other for other in names if other.startswith(f"{name}.")]
    near = [f"{name}.*"] if below else difflib.get_close_matches(name, names, n=3) or names[:3]
    raise ValueError(
        f"convert: keep names {name!r}, which matches none of the {len(names)} layers; "
        f"did you mean {', '.join(repr(n) for n in near)}?"
    )
