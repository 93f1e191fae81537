# SPDX-License-Identifier: Apache-2.0
"""GlobalOptimManager without anything global: an override is written on the parameter that it concerns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

_ATTRIBUTE = "optimizer_state_bits"
"""Read by `bittern.optim`: how many bits the states of this parameter take."""


class GlobalOptimManager:
    """Per-parameter `optim_bits`, stored as an attribute of the parameter itself.

    Nothing is kept here: an override concerns that one parameter, lives as long as it does, and works before or after
    the optimizer was made. Other keys (lr, betas, ...) belong into a parameter group and are a ValueError.
    """

    @classmethod
    def get_instance(cls) -> GlobalOptimManager:
        """A manager; all of them are alike, since none holds anything."""
        return cls()

    def initialize(self) -> None:
        """Nothing to reset; kept for scripts that call it."""

    def register_parameters(self, params: Iterable[Any]) -> None:
        """Nothing to register: overrides are on the parameters; kept for scripts that call it."""

    def override_config(
        self,
        parameters: Tensor | Iterable[Tensor],
        key: str | None = None,
        value: Any = None,
        key_value_dict: Mapping[str, Any] | None = None,
    ) -> None:
        """Sets optim_bits (32 or 8) of one or more parameters. Errors: ValueError for another key or value."""
        if (key is None) == (key_value_dict is None):
            raise ValueError(
                "override_config: pass either key and value or key_value_dict; "
                f"got {'neither' if key is None else 'both'}"
            )
        config = {key: value} if key is not None else dict(key_value_dict or {})
        for p in [parameters] if isinstance(parameters, Tensor) else parameters:
            _override(p, config)

    def register_module_override(self, module: nn.Module, param_name: str, config: Mapping[str, Any]) -> None:
        """`override_config` for one parameter of a module."""
        _override(getattr(module, param_name), config)


def _override(p: Tensor, config: Mapping[str, Any]) -> None:
    for key, value in config.items():
        if key != "optim_bits":
            raise ValueError(
                f"GlobalOptimManager: only optim_bits can be overridden; got {key!r}; "
                "give the parameter a group of its own: {'params': [p], " + repr(key) + ": ...}"
            )
        if value not in (8, 32):
            raise ValueError(f"GlobalOptimManager: optim_bits must be 8 or 32; got {value!r}")
        setattr(p, _ATTRIBUTE, value)
