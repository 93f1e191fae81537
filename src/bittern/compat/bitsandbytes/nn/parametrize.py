"""Any parameter of any module in 4 bits: stored in codes, decoded where the module reads it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize as torch_parametrize

from bittern.compat.bitsandbytes.functional import QuantState, dequantize_4bit, quantize_4bit


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
    Errors: AttributeError for a name that is not there, TypeError for one that is no parameter.
    """
    found = _parameter(module, param_name)
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
    module.register_state_dict_post_hook(partial(_rename, param_name, state))  # type: ignore[no-untyped-call]


def _rename(
    param_name: str, state: QuantState, module: nn.Module, saved: dict[str, Any], prefix: str, metadata: Any
) -> None:
    """Stores codes and state under the parameter's own name instead of that of its parametrization."""
    key = f"{prefix}parametrizations.{param_name}.original"
    if key in saved:
        saved[f"{prefix}{param_name}"] = saved.pop(key)
        for name, value in state.as_dict(packed=True).items():
            saved[f"{prefix}{param_name}.{name}"] = value
