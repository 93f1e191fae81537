# SPDX-License-Identifier: Apache-2.0
"""What a conversion would do with each layer of a model, and why: the plan that `convert` then carries out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bittern.nn._copy import copied
from bittern.nn._probe import Example, arguments
from bittern.nn._table import text_table
from bittern.nn._watch import Watched, watch
from bittern.nn.activations import Activation, Swap, plan_swaps
from bittern.nn.binarize import LowBitLayer
from bittern.nn.keep import DEFAULT_KEEP, Candidate, Keep, Predicate, check_all_used, keep_rules, why_kept

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

READ_THEIR_CHILDREN: tuple[type[nn.Module], ...] = (nn.MultiheadAttention,)
"""Modules that take the weights of their linear layers and multiply themselves, without calling those layers."""


class Action(Enum):
    """What a conversion does with a layer."""

    CONVERT = "convert"
    KEEP = "keep"
    REFUSE = "refuse"
    """The layer cannot be converted as it is: `convert` raises unless `keep` names it."""
    SWAP = "swap"
    """Another activation takes its place."""


class PlanRow(NamedTuple):
    """One layer, or one activation, of a plan."""

    name: str
    kind: str
    """Class name."""
    shape: tuple[int, ...]
    """Shape of its weight; () where it has none of that name or no size yet."""
    action: Action
    reason: str
    """Why it is kept or refused, or what takes its place; "" where it is converted."""


@dataclass(frozen=True, repr=False)
class Plan:
    """What a conversion does with every layer that has a weight matrix; `print(plan)` shows a table."""

    rows: tuple[PlanRow, ...]
    notes: tuple[str, ...] = ()
    """What the rows cannot show: activations that no swap reaches, and what is not known without an example."""

    def names(self, action: Action) -> tuple[str, ...]:
        """Names of the layers with this action."""
        return tuple(row.name for row in self.rows if row.action is action)

    def __str__(self) -> str:
        lines = [(r.name or "(model)", r.kind, str(list(r.shape)), r.action.value, r.reason) for r in self.rows]
        counts = {action: len(self.names(action)) for action in Action}
        shown = ", ".join(f"{a.value} {n}" for a, n in counts.items() if n or a is not Action.SWAP)
        return "\n".join([text_table(("layer", "kind", "weight", "action", "because"), lines), shown, *self.notes])

    __repr__ = __str__


def plan_conversion(
    model: nn.Module, *, keep: Keep = DEFAULT_KEEP, example: Example | None = None, activation: Activation | None = None
) -> Plan:
    """Say what `convert` would do with each layer of `model`, without doing it.

    keep, activation: see `convert`. example: with it, positions follow the forward pass, layers that it never calls or
    whose weight another module reads are kept, and shortcuts without stride are found.
    Raises: ValueError for a name or pattern in `keep` that matches no layer, and for an activation that swaps nothing;
    TypeError for a `keep` or an activation of another kind.
    """
    rules = keep_rules("convert", keep)
    model = copied(model)
    watched = None if example is None else watch_layers(model, arguments("convert", example))
    return make_plan(model, rules, watched, () if activation is None else plan_swaps("convert", model, activation))


def watch_layers(model: nn.Module, args: tuple[Tensor, ...]) -> Watched:
    """What one forward pass of `model` does with the layers that can be converted."""
    return watch(model, args, (*CONVERTIBLE, LowBitLayer))


def make_plan(
    model: nn.Module, rules: Sequence[str | Predicate], watched: Watched | None, swaps: Sequence[Swap]
) -> Plan:
    """The plan for `model`. watched: what a forward pass did; None: all layers count as called, as registered."""
    kinds: tuple[type[nn.Module], ...] = (*CONVERTIBLE, LowBitLayer, *_WITHOUT_COUNTERPART)
    layers = layers_of(model, lambda module: isinstance(module, kinds))
    candidates = {id(module) for _, module in layers if isinstance(module, CONVERTIBLE)}
    order = [module for _, module in layers] if watched is None else watched.called.values()
    positions = {key: i for i, key in enumerate(id(m) for m in order if id(m) in candidates)}
    rows, used = [], set()
    for name, module in layers:
        patterns = [rule for rule in rules if isinstance(rule, str) and fnmatchcase(name, rule)]
        used.update(patterns)
        action, reason = _decide(module, _parent(model, name))
        if action is not Action.KEEP and _used_otherwise(module, watched):
            action, reason = Action.KEEP, _used_otherwise(module, watched)
        elif action is not Action.KEEP:
            bypass = watched is not None and id(module) in watched.bypasses
            candidate = Candidate(name, module, positions[id(module)], len(positions), bypass)
            kept = why_kept(rules, patterns, candidate)
            action, reason = (Action.KEEP, kept) if kept else (action, reason)
        rows.append(PlanRow(name, type(module).__name__, _weight_shape(module), action, reason))
    check_all_used("convert", [r for r in rules if isinstance(r, str) and r not in used], [row.name for row in rows])
    return Plan((*rows, *map(_swap_row, swaps)), _notes(watched, swaps))


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


def layers_of(model: nn.Module, wanted: Callable[[nn.Module], bool]) -> list[tuple[str, nn.Module]]:
    """The modules that are wanted, each under its first name; those inside a low-bit layer's method are its own."""
    found: list[tuple[str, nn.Module]] = []
    inside: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, LowBitLayer):
            inside.update(id(child) for child in module.modules() if child is not module)
        if id(module) not in inside and wanted(module):
            found.append((name, module))
    return found


def check_possible(owner: str, verb: str, plan: Plan) -> None:
    """Refuse a plan that cannot be carried out. Raises: ValueError listing all layers that stand against it."""
    refused = [row for row in plan.rows if row.action is Action.REFUSE]
    if refused:
        listed = "; ".join(f"{row.name!r} ({row.kind}): {row.reason}" for row in refused)
        raise ValueError(f"{owner}: cannot {verb} {listed}. Change them, or name them in keep")


def check_called(owner: str, model: nn.Module, watched: Watched, names: Iterable[str]) -> None:
    """Refuse a model whose forward, `watched`, goes on using an old layer; `names` are the new ones. ValueError."""
    for name in names:
        if id(model.get_submodule(name)) not in watched.called:
            raise ValueError(
                f"{owner}: the forward pass does not call the new layer {name!r}, because it holds the old one outside "
                "its modules, e.g. in a list; keep it in an nn.ModuleList, or name it in keep"
            )


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
    if isinstance(parent, READ_THEIR_CHILDREN):
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
