# SPDX-License-Identifier: Apache-2.0
"""Layers that compute what a layer of torch computes, and can be converted as that one.

A class may hold its weight otherwise (the Conv1D of GPT-2), compute it (standardised convolutions), hold several layers
in one (nn.MultiheadAttention, nn.LSTM), or be a subclass that adds nothing. A conversion puts the plain layer in its
place first, and only where that is shown to compute the same: a class that does anything else is never replaced.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from bittern.nn import recurrent
from bittern.nn._copy import copied
from bittern.nn._probe import eval_mode
from bittern.nn._watch import Watched
from bittern.nn.attention import MultiheadAttention, why_not

PLAIN: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Linear)
"""Layers that have a low-bit counterpart."""


class Substitute(NamedTuple):
    """A plain layer, or a module of such, in the place of another one."""

    old: nn.Module
    new: nn.Module
    note: str
    """What a plan says of it."""


class Substitutes(NamedTuple):
    """For the modules of one model, by id."""

    found: dict[int, Substitute]
    """By id of the old module."""
    reasons: dict[int, str]
    """Why a module that looks like one has no substitute."""

    def copies(self) -> tuple[Substitute, ...]:
        """Those that hold numbers of their own, and not the parameters of the old module."""
        return tuple(s for s in self.found.values() if s.note)

    def without_read(self, watched: Watched) -> Substitutes:
        """Those but for what another module reads a parameter of: a copy in another form would break its forward."""
        found, reasons = dict(self.found), dict(self.reasons)
        for substitute in self.copies():
            inside = {watched.names[id(module)] for module in substitute.old.modules()}
            readers = {name for p in substitute.old.parameters() for name in watched.readers.get(id(p), ())} - inside
            if readers:
                del found[id(substitute.old)]
                named = ", ".join(repr(name or "(model)") for name in sorted(readers))
                reasons[id(substitute.old)] = f"{named} reads its weight itself, which must stay real"
        return Substitutes(found, reasons)

    def around(self, module: nn.Module) -> Substitute | None:
        """The substitution that made a module of several layers, of which `module` is one."""
        return next((s for s in self.found.values() if any(child is module for child in s.new.children())), None)

    def of(self, new: nn.Module) -> Substitute | None:
        """The substitution that made `new`."""
        return next((s for s in self.found.values() if s.new is new), None)


def substitutes(model: nn.Module, stays: Callable[[str], bool]) -> Substitutes:
    """What could stand in the place of modules of `model`, which is a copy. stays: names that nobody wants changed."""
    found: dict[int, Substitute] = {}
    reasons: dict[int, str] = {}
    inside = {id(child) for m in model.modules() if isinstance(m, nn.MultiheadAttention) for child in m.children()}
    for name, module in model.named_modules():
        make = None if id(module) in inside or stays(name) else _maker(module)
        if make is None:
            continue
        made = has_hooks(module) or (make is not _same_class and shared_weight(model, module)) or make(module)
        if isinstance(made, str):
            reasons[id(module)] = made
        else:
            found[id(module)] = made
    return Substitutes(found, reasons)


def put_in_place(model: nn.Module, replacements: dict[int, nn.Module]) -> nn.Module:
    """Put each new module under every name that the old one had."""
    for parent in list(model.modules()):
        for key, child in parent._modules.items():
            if id(child) in replacements:
                parent._modules[key] = replacements[id(child)]
    return replacements.get(id(model), model)


def _maker(module: nn.Module) -> Callable[[Any], Substitute | str] | None:
    if any(is_lazy(p) for p in module.parameters(recurse=False)):
        return None
    if isinstance(module, nn.MultiheadAttention):
        return _attention
    if isinstance(module, recurrent.LAYERS):
        return _recurrent
    if is_conv1d_of_gpt(module):
        return _transposed
    if isinstance(module, PLAIN) and type(module) not in PLAIN:
        return _same_class if computes_as_base(module) else _own_weight
    return None


def has_hooks(module: nn.Module) -> str:
    """Why replacing a module would lose what hangs on it; "" when nothing does."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return "its forward hooks would be lost; remove them first" if any(getattr(module, h) for h in hooks) else ""


def shared_weight(model: nn.Module, module: nn.Module) -> str:
    """Which other modules hold a parameter of `module`, whose copy would be another one; "" when none does."""
    own = {id(p) for p in module.parameters()}
    inside = {id(m) for m in module.modules()}
    others = [
        repr(name or "(model)")
        for name, holder in model.named_modules()
        if id(holder) not in inside and any(id(p) in own for p in holder.parameters(recurse=False))
    ]
    return f"its weight is also that of {', '.join(others)}, which would go on in numbers of its own" if others else ""


def computes_as_base(module: nn.Module) -> bool:
    """Whether a subclass of a plain layer leaves all that computes to it, and holds nothing more."""
    base = next(kind for kind in PLAIN if isinstance(module, kind))
    own = type(module).__mro__[: type(module).__mro__.index(base)]
    defined = any(name in vars(cls) for cls in own for name in _COMPUTING) or "forward" in vars(module)
    more = set(module._parameters) - {"weight", "bias"} or module._buffers or module._modules
    return not defined and not more


_COMPUTING = ("forward", "_conv_forward", "__call__", "_call_impl", "__getattr__", "weight", "bias")
"""What a layer of torch computes by."""


def _attention(old: nn.MultiheadAttention) -> Substitute | str:
    problem = why_not(old)
    return problem or Substitute(old, MultiheadAttention.from_torch(old), "a projection of nn.MultiheadAttention")


def _recurrent(old: nn.Module) -> Substitute | str:
    problem = recurrent.why_not(old) or has_hooks(old)
    if problem:
        return problem
    return Substitute(old, recurrent.COUNTERPARTS[type(old)].from_torch(old), f"a product of nn.{type(old).__name__}")


def _same_class(old: nn.Module) -> Substitute:
    new = _plain_like(old)
    new.weight, new.bias = old.weight, old.bias
    return Substitute(old, new.train(old.training), "")


def _plain_like(old: nn.Module) -> nn.Module:
    """A layer of torch's own of the sizes of `old`, without numbers."""
    if isinstance(old, nn.Linear):
        return nn.Linear(old.in_features, old.out_features, device="meta")
    assert isinstance(old, (nn.Conv1d, nn.Conv2d))
    cls: Any = nn.Conv1d if isinstance(old, nn.Conv1d) else nn.Conv2d
    sizes = (old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, old.dilation, old.groups)
    return cls(*sizes, padding_mode=old.padding_mode, device="meta")  # type: ignore[no-any-return]


def is_conv1d_of_gpt(module: nn.Module) -> bool:
    """Whether a module looks like the Conv1D of GPT-2: x @ weight + bias with weight [in, out]."""
    weight, bias = module._parameters.get("weight"), module._parameters.get("bias")
    if type(module).__name__ != "Conv1D" or isinstance(module, PLAIN) or weight is None or bias is None:
        return False
    return weight.ndim == 2 and bias.shape == weight.shape[1:] and len(module._parameters) == 2


@torch.no_grad()
def _transposed(old: nn.Module) -> Substitute | str:
    """An nn.Linear for a Conv1D, which is called once to see that it computes x @ weight + bias."""
    weight, bias = old.weight, old.bias
    assert isinstance(weight, nn.Parameter)
    assert isinstance(bias, nn.Parameter)
    if weight.is_meta or not bool(weight.isfinite().all()):
        return "class Conv1D can be told by what it computes alone, and its weight has no finite numbers"
    new = nn.Linear(weight.shape[0], weight.shape[1], device="meta")
    new.weight = nn.Parameter(weight.T.contiguous(), requires_grad=weight.requires_grad)
    new.bias = bias
    x = torch.randn(3, weight.shape[0], generator=torch.Generator().manual_seed(0)).to(weight)
    found = _answer(old, x)
    expected = new(x)
    terms = x.abs() @ weight.abs() + bias.abs()
    gap = 64 * math.sqrt(weight.shape[0]) * torch.finfo(weight.dtype).eps * terms
    if found is None or found.shape != expected.shape or not bool(((found - expected).abs() <= gap).all()):
        return "class Conv1D computes something else than x @ weight + bias"
    return Substitute(old, new.train(old.training), "weight [in, out] transposed")


def _answer(module: nn.Module, x: Tensor) -> Any:
    """What a module makes of x in eval mode; None where it fails."""
    with eval_mode(module):
        try:
            return module(x)
        except Exception:
            return None


class _Product(TorchFunctionMode):
    """Notes the convolutions and linear products of one forward."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[dict[str, Any], Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        names = _LINEAR if func is F.linear else _CONV if func in (F.conv1d, F.conv2d) else ()
        if names:
            self.calls.append(({**dict(zip(names, args, strict=False)), **(kwargs or {})}, result))
        return result


_LINEAR = ("input", "weight", "bias")
_CONV = (*_LINEAR, "stride", "padding", "dilation", "groups")


@torch.no_grad()
def _own_weight(old: nn.Module) -> Substitute | str:
    """A plain layer for a subclass whose forward is one product with a weight that it standardises first.

    So do StdConv2d (arXiv:1903.10520) and ScaledStdConv2d (arXiv:2101.08692): filter by filter their weight is
    a * parameter + b. It is computed here once, and is then the latent weight; nothing standardises it again. A filter
    that is multiplied by 0, as the last ones of residual blocks are before training, starts at its parameter less the
    mean: zeros have no sign.
    """
    unknown = f"class {type(old).__name__} may compute something else than its base"
    weight = old._parameters.get("weight")
    if weight is None or old._modules or old._buffers or weight.is_meta or not bool(weight.isfinite().all()):
        return unknown
    tried = copied(old)  # a forward may write into its layer
    call, again = (_only_product(tried, seed) for seed in (0, 1))
    if call is None or again is None or call.get("bias") is not tried.bias:
        return unknown
    made, after = call["weight"], tried.weight
    assert isinstance(after, Tensor)
    if made is after or not torch.equal(weight, after) or not torch.equal(made, again["weight"]):
        return unknown
    silent = ~made.flatten(1).any(1)
    if not bool(made[~silent].all()) or not _is_affine(made, weight):  # a zero is a tap that a mask may have taken
        return unknown
    made = torch.where(silent.view(-1, *(1,) * (weight.ndim - 1)), weight - _filter_means(weight), made)
    new = _called_like(old, call)
    new.weight = nn.Parameter(made.detach().clone(), requires_grad=weight.requires_grad)
    new.bias = old.bias
    note = f"{type(old).__name__} standardises its weight: done once, here, and not again in training"
    if bool(silent.any()):
        note += f"; {int(silent.sum())} of {len(silent)} filters were multiplied by 0, and start without that"
    return Substitute(old, new.train(old.training), note)


def _only_product(old: nn.Module, seed: int) -> dict[str, Any] | None:
    """The arguments of the one product that is all that the forward of a subclass does; None where it does more."""
    weight = old.weight
    assert isinstance(weight, Tensor)
    size = [2, weight.shape[1] * int(getattr(old, "groups", 1))]
    if isinstance(old, (nn.Conv1d, nn.Conv2d)):
        size += [d * k + 2 for d, k in zip(old.dilation, old.kernel_size, strict=True)]
    x = torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(weight)
    with _Product() as seen:
        y = _answer(old, x)
    if len(seen.calls) != 1:
        return None
    call, result = seen.calls[0]
    return call if result is y and call["input"] is x else None


def _called_like(old: nn.Module, call: dict[str, Any]) -> nn.Module:
    """A layer of torch's own that makes this very call."""
    if isinstance(old, nn.Linear):
        return _plain_like(old)
    assert isinstance(old, (nn.Conv1d, nn.Conv2d))
    cls: Any = nn.Conv1d if isinstance(old, nn.Conv1d) else nn.Conv2d
    options = {name: call[name] for name in _CONV[3:] if name in call}
    return cls(old.in_channels, old.out_channels, old.kernel_size, **options, device="meta")  # type: ignore[no-any-return]


def _filter_means(weight: Tensor) -> Tensor:
    return weight.mean(dim=tuple(range(1, weight.ndim)), keepdim=True)


def _is_affine(made: Tensor, weight: Tensor) -> bool:
    """Whether made = a * weight + b with numbers a and b of each filter, but for rounding."""
    if made.shape != weight.shape:
        return False
    rows, wanted = weight.detach().double().flatten(1), made.detach().double().flatten(1)
    rows, centred = rows - rows.mean(1, keepdim=True), wanted - wanted.mean(1, keepdim=True)
    slope = (rows * centred).sum(1, keepdim=True) / rows.square().sum(1, keepdim=True).clamp_min(1e-300)
    gap = 64 * math.sqrt(rows.shape[1]) * torch.finfo(made.dtype).eps * wanted.abs().amax(1, keepdim=True)
    return bool(((centred - slope * rows).abs() <= gap).all())
