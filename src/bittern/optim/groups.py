# SPDX-License-Identifier: Apache-2.0
"""Parameter groups of a model with overrides per parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from bittern.optim._layout import STATE_BITS_ATTRIBUTE

Override = Callable[[str, nn.Module, Tensor], Mapping[str, Any] | None]


def param_groups(model: nn.Module, override: Override | None = None) -> list[dict[str, Any]]:
    """Groups for an optimizer: the trainable parameters of `model` in order, those with equal overrides together.

    override(name, module, p) returns the options of one parameter, e.g. {"state_bits": 32, "weight_decay": 0.0}, or
    None; name is p's full name, module the one that holds p. A shared parameter is asked for once, where it comes
    first. Modules that ask for a number of state bits by an attribute `optimizer_state_bits` get it, unless the
    override says otherwise.
    Errors: TypeError if the override returns something else, ValueError if it sets "params".
    """
    groups: list[tuple[dict[str, Any], list[Tensor]]] = []
    seen: set[Tensor] = set()
    for module_name, module in model.named_modules():
        for name, p in module.named_parameters(recurse=False):
            if p in seen or not p.requires_grad:
                continue
            seen.add(p)
            options = _options(f"{module_name}.{name}" if module_name else name, module, p, override)
            for known, members in groups:
                if known == options:
                    members.append(p)
                    break
            else:
                groups.append((options, [p]))
    return [{"params": members, **options} for options, members in groups]


def _options(name: str, module: nn.Module, p: Tensor, override: Override | None) -> dict[str, Any]:
    options: dict[str, Any] = {}
    bits = getattr(module, STATE_BITS_ATTRIBUTE, None)
    if bits is not None:
        options["state_bits"] = bits
    chosen = override(name, module, p) if override is not None else None
    if chosen is not None and not isinstance(chosen, Mapping):
        raise TypeError(f"param_groups: override must return a mapping or None; got {type(chosen).__name__} for {name}")
    options.update(chosen or {})
    if "params" in options:
        raise ValueError(f'param_groups: override sets options only, not "params" ({name})')
    return options
