# SPDX-License-Identifier: Apache-2.0
"""quantize(model, Linear4bit): the linear layers of a whole model, frozen in 2 to 8 bits, and a plan that says which.

Nothing is left out in silence. A linear layer that cannot be frozen is an error until `keep` names it; any other
layer with a weight matrix (convolutions, recurrent layers, experts held as one parameter) stays as it is with a warning
until `keep` names it. Only look-up tables stay without a word: they multiply nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Literal, overload

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bittern.nn._copy import copied
from bittern.nn._frozen import FrozenLinear, not_finite
from bittern.nn._probe import Example, arguments
from bittern.nn._watch import Watched, watch
from bittern.nn.binarize import LowBitLayer
from bittern.nn.keep import Candidate, Keep, Predicate, check_all_used, keep_rules, why_kept
from bittern.nn.linear_4bit import Linear4bit
from bittern.nn.linear_8bit import Linear8bit
from bittern.nn.linear_groups import LinearGroups
from bittern.nn.linear_mxfp4 import LinearMXFP4
from bittern.nn.mx_codes import GROUP
from bittern.nn.plan import (
    READ_THEIR_CHILDREN,
    Action,
    Plan,
    PlanRow,
    check_called,
    check_possible,
    layers_of,
)
from bittern.nn.substitutes import put_in_place

FrozenKind = Callable[..., Linear4bit | Linear8bit | LinearGroups | LinearMXFP4]
"""Linear4bit, Linear8bit, LinearGroups or LinearMXFP4, or a partial of one with its options: partial(Linear4bit,
nested=True)."""
FrozenClass = type[Linear4bit] | type[Linear8bit] | type[LinearGroups] | type[LinearMXFP4]

_OPTIONS: dict[FrozenClass, tuple[str, ...]] = {
    Linear4bit: ("code", "block_size", "nested"),
    Linear8bit: ("threshold",),
    LinearGroups: ("bits", "group", "zero_point", "scale_dtype", "activations"),
    LinearMXFP4: (),
}

_LOOK_UPS = (nn.Embedding, nn.EmbeddingBag)


@overload
def quantize(
    model: nn.Module,
    layer: FrozenKind,
    *,
    keep: Keep = (),
    example: Example | None = None,
    dry_run: Literal[False] = False,
) -> nn.Module: ...


@overload
def quantize(
    model: nn.Module, layer: FrozenKind, *, keep: Keep = (), example: Example | None = None, dry_run: Literal[True]
) -> Plan: ...


def quantize(
    model: nn.Module, layer: FrozenKind, *, keep: Keep = (), example: Example | None = None, dry_run: bool = False
) -> nn.Module | Plan:
    """Copy `model` with every nn.Linear frozen in 2 to 8 bits; what stays is said in the plan and by a warning.

    The model that comes in is not touched, and weights that are frozen are not copied first. Modules that were shared
    stay shared; biases, and all parameters that stay, are copies that train as before.

    layer: Linear4bit, Linear8bit, LinearGroups or LinearMXFP4, or a partial with options, e.g. partial(Linear4bit,
        code=codebooks.fp4(), block_size=32, nested=True) or partial(LinearGroups, bits=3, group=128).
    keep: which layers stay as they are: names, fnmatch patterns and predicates on a `Candidate`, e.g. ["lm_head"] or
        [first_and_last, "*.router"]. By default none.
    example: input for one forward in eval mode. With it, "first" and "last" of predicates follow the forward pass, and
        layers whose weight another module reads itself are kept, which without it are only known for torch's own.
    dry_run: print the plan and return it instead of a model.

    Errors: TypeError for another `layer`, or a `keep` of another kind; ValueError, with all layers listed, where linear
    layers cannot be frozen (hooks, a subclass, a weight that is not finite or that another module shares) and are not
    kept, for a name that matches no layer, for options that do not fit, and where nothing is left to freeze.
    Reference: QLoRA (arXiv:2305.14314), LLM.int8() (arXiv:2208.07339).
    """
    kind, options = _kind(layer)
    rules = keep_rules("quantize", keep)
    args = None if example is None else arguments("quantize", example)
    plan, unnamed, called = _plan(model, kind, rules, args)
    if dry_run:
        print(plan)
        return plan
    names = plan.names(Action.CONVERT)
    _check_plan(plan, kind)
    if unnamed:
        _warn(kind, [row for row in plan.rows if row.name in unnamed])
    frozen_weights = [w for name in names if isinstance(w := model.get_submodule(name).weight, Tensor)]
    new = copied(model, frozen_weights)
    layers = {id(new.get_submodule(name)): _freeze(name, new.get_submodule(name), kind, options) for name in names}
    new = put_in_place(new, layers)
    if args is not None:
        check_called("quantize", new, watch(new, args, (FrozenLinear,)), [name for name in names if name in called])
    return new


def _kind(layer: Any) -> tuple[FrozenClass, dict[str, Any]]:
    """The class and its options. Errors: TypeError."""
    inner = layer.func if isinstance(layer, partial) else layer
    options = dict(layer.keywords) if isinstance(layer, partial) else {}
    if inner not in tuple(_OPTIONS) or (isinstance(layer, partial) and layer.args):
        raise TypeError(
            f"quantize: layer must be {', '.join(cls.__name__ for cls in _OPTIONS)}, or a partial with keywords; got "
            f"{layer!r}; for 1-bit methods use convert"
        )
    known = _OPTIONS[inner]
    unknown = [name for name in options if name not in known]
    if unknown:
        listed = f"has the options {', '.join(known)}" if known else "has no options"
        raise TypeError(f"quantize: {inner.__name__} {listed}; got {', '.join(unknown)}")
    return inner, options


def _plan(
    model: nn.Module, kind: type[FrozenLinear], rules: Sequence[str | Predicate], args: Any
) -> tuple[Plan, set[str], set[str]]:
    """The plan, the names of layers that stay although nobody said so, and of those that the example calls."""
    # shares every parameter with the model; only buffers are copied
    light = copied(model, [p for p in model.parameters() if not is_lazy(p)])
    watched = None if args is None else watch(light, args, (nn.Linear, LowBitLayer, FrozenLinear))
    layers = layers_of(light, _holds_a_matrix)
    linear = [module for _, module in layers if isinstance(module, nn.Linear)]
    order = linear if watched is None else [m for m in watched.called.values() if isinstance(m, nn.Linear)]
    order += [module for module in linear if id(module) not in {id(m) for m in order}]
    positions = {id(module): i for i, module in enumerate(order)}
    rows, used, unnamed = [], set(), set()
    for name, module in layers:
        patterns = [rule for rule in rules if isinstance(rule, str) and fnmatchcase(name, rule)]
        used.update(patterns)
        action, reason = _decide(name, module, light, watched, kind)
        place = positions.get(id(module))
        if place is not None:
            kept = why_kept(rules, patterns, Candidate(name, module, place, len(positions)))
        else:
            kept = f"keep: {patterns[0]}" if patterns else ""
        if action is Action.KEEP and not kept and not isinstance(module, (FrozenLinear, LowBitLayer, *_LOOK_UPS)):
            unnamed.add(name)
        action, reason = (Action.KEEP, kept) if kept and action is not Action.KEEP else (action, reason)
        rows.append(PlanRow(name, type(module).__name__, _shape(module), action, reason))
    check_all_used("quantize", [r for r in rules if isinstance(r, str) and r not in used], [row.name for row in rows])
    called = set() if watched is None else {name for name, module in layers if id(module) in watched.called}
    return Plan(tuple(rows)), unnamed, called


def _holds_a_matrix(module: nn.Module) -> bool:
    own = any(is_lazy(p) or p.ndim >= 2 for p in module.parameters(recurse=False))
    return own or isinstance(module, (FrozenLinear, nn.Linear))


def _decide(
    name: str, module: nn.Module, model: nn.Module, watched: Watched | None, kind: type[FrozenLinear]
) -> tuple[Action, str]:
    """What becomes of a layer that `keep` does not name."""
    cls = type(module).__name__
    if isinstance(module, FrozenLinear):
        return Action.KEEP, "it is frozen already"
    if isinstance(module, LowBitLayer):
        return Action.KEEP, "it is low-bit already, and its latent weight trains"
    if isinstance(module, _LOOK_UPS):
        return Action.KEEP, "a look-up multiplies nothing"
    if cls == "Conv1D" and not isinstance(module, nn.Linear):
        return (
            Action.REFUSE,
            "Conv1D holds its weight as [in, out]; put an nn.Linear with weight.T in its place, as "
            "convert does with a rule that answers with the layer",
        )
    if not isinstance(module, nn.Linear):
        return Action.KEEP, f"{cls} is no nn.Linear, and nothing else has a frozen form"
    readers = [] if watched is None else watched.readers.get(id(module.weight), [])
    if readers:
        return Action.KEEP, f"{', '.join(repr(r or '(model)') for r in readers)} reads its weight itself"
    problem = _problem(name, module, model, kind)
    return (Action.REFUSE, problem) if problem else (Action.CONVERT, "")


def _problem(name: str, module: nn.Linear, model: nn.Module, kind: type[FrozenLinear]) -> str:
    """Why an nn.Linear cannot be frozen as it is; "" when it can."""
    parent = model.get_submodule(name.rpartition(".")[0]) if name else None
    if any(is_lazy(p) for p in module.parameters()):
        return "it has no size yet; run the model once"
    if isinstance(parent, (*READ_THEIR_CHILDREN, nn.TransformerEncoderLayer)):  # the second in eval mode alone
        return f"{type(parent).__name__} multiplies by its weight without calling it"
    if type(module) is not nn.Linear:
        return f"class {type(module).__name__} may compute something else than its base"
    if any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)):
        return "its hooks would be lost; remove them first"
    if module.weight.numel() == 0:
        return "its weight is empty"
    others = [
        repr(other or "(model)")
        for other, holder in model.named_modules()
        if holder is not module and any(p is module.weight for p in holder.parameters(recurse=False))
    ]
    if others:
        return f"its weight is also that of {', '.join(others)}, which would go on in numbers of its own"
    if kind is LinearMXFP4 and module.in_features % GROUP:
        return f"its {module.in_features} inputs are no multiple of {GROUP}"
    problem = not_finite(module.weight.detach())
    return f"its weight has {problem}" if problem else ""


def _shape(module: nn.Module) -> tuple[int, ...]:
    """Of the weight, or of the first matrix where there is none of that name."""
    if isinstance(module, FrozenLinear):
        return module.out_features, module.in_features
    matrices = [p for p in module.parameters(recurse=False) if not is_lazy(p) and p.ndim >= 2]
    weight = getattr(module, "weight", None)
    chosen = weight if any(weight is p for p in matrices) else next(iter(matrices), None)
    return () if chosen is None else tuple(chosen.shape)


def _check_plan(plan: Plan, kind: type[FrozenLinear]) -> None:
    check_possible("quantize", "freeze", plan)
    if not plan.names(Action.CONVERT):
        kept = "; ".join(f"{row.name!r}: {row.reason}" for row in plan.rows) or "it has no nn.Linear"
        raise ValueError(f"quantize: no layer is left for {kind.__name__} ({kept}); pass another model or keep")


def _warn(kind: type[FrozenLinear], rows: Sequence[PlanRow]) -> None:
    listed = "; ".join(f"{row.name or '(model)'!r} ({row.kind} {list(row.shape)}): {row.reason}" for row in rows)
    warnings.warn(
        f"quantize: not in {kind.__name__}: {listed}. Name them in keep to say that they shall stay as they are",
        stacklevel=3,
    )


def _freeze(name: str, old: nn.Module, kind: FrozenClass, options: dict[str, Any]) -> nn.Module:
    assert isinstance(old, nn.Linear)
    try:
        return kind.from_float(old, **options)
    except (TypeError, ValueError) as error:
        raise type(error)(f"quantize: layer {name!r}: {error}") from error
