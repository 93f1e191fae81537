# SPDX-License-Identifier: Apache-2.0
"""Parameters that quantize themselves when they are moved to a device: Params4bit and Int8Params."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from bittern.compat.bitsandbytes._int8 import int8_vectorwise_quant
from bittern.compat.bitsandbytes.functional import QuantState, quantize_4bit


def check_finite(owner: str, weight: Tensor) -> None:
    """Errors: ValueError for NaN and infinite numbers, which have no code."""
    if not bool(weight.isfinite().all()):
        raise ValueError(
            f"{owner}: the weight {list(weight.shape)} must be finite to be quantized; got "
            f"{int(weight.isnan().sum())} NaN and {int(weight.isinf().sum())} inf; repair it first"
        )


def _rebuild(cls: type, data: Tensor, requires_grad: bool) -> Any:
    return torch.Tensor._make_subclass(cls, data, requires_grad)


def _item(owner: str, name: str) -> Any:
    """A read-only attribute that is one of the state; AttributeError where there is none yet."""

    def read(parameter: Any) -> Any:
        state = getattr(parameter, owner)
        found = None if state is None else getattr(state, name)
        if found is None:
            raise AttributeError(f"{type(parameter).__name__} has no {name!r} of {owner}: not quantized, or not nested")
        return found

    return property(read)


class _QuantizedParameter(nn.Parameter):
    """A parameter with further attributes that copying, pickling and slicing keep."""

    def _with(self, data: Tensor) -> Any:
        """A parameter of the same kind with other data and the same attributes."""
        result = _rebuild(type(self), data, self.requires_grad)
        result.__dict__.update(self.__dict__)
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        result = _rebuild(type(self), self.data.clone(), self.requires_grad)
        memo[id(self)] = result
        result.__dict__.update({key: copy.deepcopy(value, memo) for key, value in self.__dict__.items()})
        return result

    def __copy__(self) -> Any:
        return self._with(self.data)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _rebuild, (type(self), self.data, self.requires_grad), dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def cpu(self) -> Any:  # type: ignore[override]
        """Moves to the CPU, which quantizes."""
        return self.to("cpu")

    def cuda(self, device: int | torch.device | str | None = None, non_blocking: bool = False) -> Any:  # type: ignore[override]
        """Moves to a GPU, which quantizes."""
        return self.to("cuda" if device is None else device, non_blocking=non_blocking)


class Params4bit(_QuantizedParameter):
    """A frozen weight in 4 bits: `.to(device)` turns floats into packed codes and their `quant_state`.

    kwargs: further attributes of the parameter, as libraries copy them from one to the next.
    """

    blocksize: int
    compress_statistics: bool | None
    quant_type: str
    quant_state: QuantState | None
    quant_storage: torch.dtype
    bnb_quantized: bool
    module: nn.Module | None

    def __new__(
        cls,
        data: Tensor | None = None,
        requires_grad: bool = False,
        quant_state: QuantState | None = None,
        blocksize: int | None = None,
        compress_statistics: bool | None = True,
        quant_type: str = "fp4",
        quant_storage: torch.dtype = torch.uint8,
        module: nn.Module | None = None,
        bnb_quantized: bool = False,
        **kwargs: Any,
    ) -> Self:
        self = torch.Tensor._make_subclass(cls, torch.empty(0) if data is None else data, requires_grad)
        self.blocksize = 64 if blocksize is None else blocksize
        self.compress_statistics = compress_statistics
        self.quant_type = quant_type
        self.quant_state = quant_state
        self.quant_storage = quant_storage
        self.bnb_quantized = bnb_quantized
        self.module = module
        self.__dict__.update(kwargs)
        return self

    @classmethod
    def from_prequantized(
        cls,
        data: Tensor,
        quantized_stats: Mapping[str, Any],
        requires_grad: bool = False,
        device: torch.device | str = "cpu",
        module: nn.Module | None = None,
        **kwargs: Any,
    ) -> Self:
        """From packed codes and the items of `QuantState.as_dict`; device: bitsandbytes' default is CUDA."""
        state = QuantState.from_dict(quantized_stats, device=device)
        return cls(
            data.to(device),
            requires_grad,
            quant_state=state,
            blocksize=state.blocksize,
            compress_statistics=state.nested,
            quant_type=state.quant_type or "fp4",
            quant_storage=data.dtype,
            module=module,
            bnb_quantized=True,
            **kwargs,
        )

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """As Tensor.to; the first move to a real device quantizes."""
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
        if device is not None and device.type != "meta" and not self.bnb_quantized:
            check_finite("Params4bit", self.data)
            self.data, self.quant_state = quantize_4bit(
                self.data.contiguous().to(device),
                blocksize=self.blocksize,
                compress_statistics=bool(self.compress_statistics),
                quant_type=self.quant_type,
                quant_storage=self.quant_storage,
            )
            self.bnb_quantized = True
            return self
        if self.quant_state is not None and device is not None:
            self.quant_state.to(device)
        return self._with(self.data.to(device=device, dtype=dtype, non_blocking=non_blocking))

    # Under the names of the state_dict, where sharding looks for them.
    absmax = _item("quant_state", "absmax")
    code = quant_map = _item("quant_state", "code")
    offset = nested_offset = _item("quant_state", "offset")
    state2 = _item("quant_state", "state2")
    nested_absmax = _item("state2", "absmax")
    nested_quant_map = _item("state2", "code")
    nested_blocksize = _item("state2", "blocksize")
    nested_dtype = _item("state2", "dtype")

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """torch.chunk and torch.split keep the attributes, which sharding needs; all else gives plain tensors."""
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
        if func in (torch.chunk, torch.split, torch.Tensor.chunk, torch.Tensor.split):
            return tuple(args[0]._with(part) for part in result)
        return result


class Int8Params(_QuantizedParameter):
    """A weight in 8 bits by rows: `.to(device)` turns floats into int8 codes and their row scales `SCB`.

    has_fp16_weights=True leaves the weight as it is; its layer quantizes it at each call. kwargs: further attributes.
    """

    SCB: Tensor | None
    has_fp16_weights: bool

    def __new__(
        cls,
        data: Tensor | None = None,
        requires_grad: bool = True,
        has_fp16_weights: bool = False,
        CB: Tensor | None = None,
        SCB: Tensor | None = None,
        **kwargs: Any,
    ) -> Self:
        if CB is not None:
            data = CB
        self = torch.Tensor._make_subclass(cls, torch.empty(0) if data is None else data, requires_grad)
        self.SCB = SCB
        self.has_fp16_weights = has_fp16_weights
        self.__dict__.update(kwargs)
        return self

    @property
    def CB(self) -> Tensor | None:
        """The codes, None while the weight is floating point."""
        return self.data if self.data.dtype == torch.int8 else None

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """As Tensor.to; the first move to a real device quantizes unless has_fp16_weights."""
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
        quantized = self.data.dtype == torch.int8
        if device is not None and device.type != "meta" and not quantized and not self.has_fp16_weights:
            # the half-precision copy is what bitsandbytes' codes are made from
            half = self.data.to(device=device, dtype=torch.float16)
            check_finite("Int8Params: in float16", half)
            self.data, self.SCB, _ = int8_vectorwise_quant(half)
            return self
        result = self._with(self.data.to(device=device, dtype=dtype, non_blocking=non_blocking))
        if self.SCB is not None and device is not None and self.SCB.device.type != "meta":
            self.SCB = result.SCB = self.SCB.to(device)
        return result
