# SPDX-License-Identifier: Apache-2.0
"""Any parameter of any module in 4 bits: stored in codes, decoded where the module reads it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize as torch_parametrize

from bittern.compat.bitsandbytes.functional import QuantState, dequantize_4bit, quantize_4bit
from bittern.compat.bitsandbytes.nn.params import check_finite


class Bnb4bitParametrization(nn.Module):
    """Packed codes -> values in the original shape and dtype, without gradient."""

    def __init__(self, quant_state: QuantState) -> None:
        super().__init__()
        self.quant_state = quant_state

    @torch.no_grad()
    def forward(self, quantized_param: Tensor) -> Tensor:
        return dequantize_4bit(quantized_param, self.quant_state)


def _parameter(module: nn.Module, param_name: str) -> nn.Parameter:
    if not hasattr(module, param_name):
        raise AttributeError(f"replace_parameter_4bit: Module does not have parameter '{param_name}'")
    found = getattr(module, param_name)
    if not isinstance(found, nn.Parameter):
        raise TypeError(f"replace_parameter_4bit: Parameter '{param_name}' is not an instance of nn.Parameter")
    return found


def replace_parameter_4bit(
    module: nn.Module,
    param_name: str,
    compress_statistics: bool = False,
    quant_type: str = "nf4",
    blocksize: int | None = None,
) -> None:
    """Puts `param_name` of `module` into 4 bits; its forward reads the decoded values, state_dict() saves the codes.

    Keys: `param_name` (codes) and `param_name.absmax`, ... as for `Linear4bit`.
    Errors: AttributeError for a name that is not there, TypeError for one that is no parameter, ValueError for NaN or
    infinite values.
    """
    found = _parameter(module, param_name)
    check_finite(f"replace_parameter_4bit: {param_name!r}", found.data)
    packed, state = quantize_4bit(
        found.data, blocksize=blocksize, compress_statistics=compress_statistics, quant_type=quant_type
    )
    setattr(module, param_name, nn.Parameter(packed, requires_grad=False))
    _parametrize(module, param_name, state)


def replace_parameter_4bit_prequantized(
    module: nn.Module, param_name: str, qs_dict: Mapping[str, Any], device: torch.device | str
) -> None:
    """The same for a parameter that holds packed codes already; qs_dict: the items of `QuantState.as_dict`."""
    _parameter(module, param_name)
    _parametrize(module, param_name, QuantState.from_dict(qs_dict, device=device))


def _parametrize(module: nn.Module, param_name: str, state: QuantState) -> None:
    torch_parametrize.register_parametrization(module, param_name, Bnb4bitParametrization(state), unsafe=True)
    _register_parametrization_hooks(module, param_name)


def _register_parametrization_hooks(module: nn.Module, param_name: str) -> None:
    """Names of its own in state_dict(), and one decoding per forward, however often the parameter is read.

    The hook behind the forward runs even where activation checkpointing aborts the forward by an exception: torch's
    count of users of its cache is global, and one too many would keep every decoded weight for good.
    """
    module.register_state_dict_post_hook(partial(_rename, param_name))  # type: ignore[no-untyped-call]
    module.register_forward_pre_hook(_enable_parametrization_cache)
    module.register_forward_hook(_disable_parametrization_cache, always_call=True)


def _enable_parametrization_cache(module: nn.Module, inputs: Any) -> None:
    torch_parametrize._cache_enabled += 1


def _disable_parametrization_cache(module: nn.Module, inputs: Any, output: Any) -> None:
    """Also called where the forward failed before the hook above ran, so the count may be 0 already."""
    torch_parametrize._cache_enabled = max(torch_parametrize._cache_enabled - 1, 0)
    if not torch_parametrize._cache_enabled:
        torch_parametrize._cache = {}


def _rename(param_name: str, module: nn.Module, saved: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Stores codes and state under the parameter's own name instead of that of its parametrization."""
    key = f"{prefix}parametrizations.{param_name}.original"
    if key in saved:
        saved[f"{prefix}{param_name}"] = saved.pop(key)
        decoder: Any = module.get_submodule(f"parametrizations.{param_name}.0")
        for name, value in decoder.quant_state.as_dict(packed=True).items():
            saved[f"{prefix}{param_name}.{name}"] = value
