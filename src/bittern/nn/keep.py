# SPDX-License-Identifier: Apache-2.0
"""Which layers a conversion leaves as they are: names, patterns, and predicates on a layer and its place."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from torch import nn


class Candidate(NamedTuple):
    """A Conv1d, Conv2d or Linear, as a `keep` predicate sees it."""

    name: str
    """As in `named_modules`."""
    module: nn.Module
    position: int
    """0 ... total - 1: in the order in which the example reaches the layers; without example, of their registration."""
    total: int
    bypass: bool = False
    """The example shows that its output is added to a branch that other layers compute from the same value."""


Predicate = Callable[[Candidate], bool | str]
"""Whether to keep a layer; instead of True it may return why, which the plan then shows."""
Keep = Predicate | Collection[str | Predicate]
"""Layers to keep: a predicate, or names, fnmatch patterns and predicates, any of which is enough."""


def first_and_last(candidate: Candidate) -> bool:
    """The first and the last layer, which nearly all papers keep in float."""
    return candidate.position in (0, candidate.total - 1)


def shortcuts(candidate: Candidate) -> bool | str:
    """Convolutions of one tap that carry the real values past a block, where nearly all papers keep them in float.

    Such are those with a stride, and, where an example shows it (`Candidate.bypass`), those whose output is added to a
    branch that other layers compute from the same value. Pointwise convolutions inside a block are neither.
    """
    module = candidate.module
    if not isinstance(module, (nn.Conv1d, nn.Conv2d)) or any(k != 1 for k in module.kernel_size):
        return False
    taps = "x".join("1" for _ in module.kernel_size)
    if any(s != 1 for s in module.stride):
        return f"{taps} with stride {module.stride[0]} carries real values past a block"
    return f"{taps} beside other layers carries real values past them" if candidate.bypass else False


def depthwise(candidate: Candidate) -> bool | str:
    """Convolutions with one channel per group: each output adds so few signs that little of its input is left."""
    module = candidate.module
    if not isinstance(module, (nn.Conv1d, nn.Conv2d)) or not 1 < module.groups == module.in_channels:
        return False
    taps = module.weight[0].numel()
    return f"depthwise: an output of {taps} signs has only {taps + 1} values"


DEFAULT_KEEP: tuple[Predicate, ...] = (first_and_last, shortcuts, depthwise)
"""What stays real unless `keep` says otherwise; `keep=[first_and_last]` converts shortcuts and depthwise layers too."""


def keep_rules(owner: str, keep: Keep) -> tuple[str | Predicate, ...]:
    """`keep` as a tuple of patterns and predicates. Raises: TypeError."""
    if isinstance(keep, str):
        raise TypeError(f"{owner}: keep must be a collection of names; got the string {keep!r}; pass [{keep!r}]")
    if not callable(keep) and not isinstance(keep, Collection):
        raise TypeError(
            f"{owner}: keep must be a predicate or a collection of names and predicates; got {keep!r}; "
            "pass e.g. keep=[first_and_last, 'head.*']"
        )
    rules: tuple[str | Predicate, ...] = (keep,) if callable(keep) else tuple(keep)
    for rule in rules:
        if not isinstance(rule, str) and not callable(rule):
            raise TypeError(f"{owner}: keep takes names, patterns and predicates; got {rule!r}; leave it out")
    return rules


def why_kept(rules: Sequence[str | Predicate], patterns: Sequence[str], candidate: Candidate) -> str:
    """The first rule that keeps `candidate`, in words, or "". patterns: those of `rules` that match its name."""
    for rule in rules:
        if isinstance(rule, str):
            if rule in patterns:
                return f"keep: {rule}"
            continue
        verdict = rule(candidate)
        if verdict:
            name = getattr(rule, "__name__", str(rule))
            return f"keep: {name} ({verdict})" if isinstance(verdict, str) else f"keep: {name}"
    return ""


def check_all_used(owner: str, unused: Sequence[str], names: Sequence[str]) -> None:
    """Refuse a name or pattern that matches no layer. Raises: ValueError."""
    if not unused:
        return
    name = unused[0]
    below = [other for other in names if other.startswith(f"{name}.")]
    near = [f"{name}.*"] if below else difflib.get_close_matches(name, names, n=3) or names[:3]
    raise ValueError(
        f"{owner}: keep names {name!r}, which matches none of the {len(names)} layers; "
        f"did you mean {', '.join(repr(n) for n in near)}?"
    )
