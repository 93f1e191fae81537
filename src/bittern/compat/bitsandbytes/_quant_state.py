# SPDX-License-Identifier: Apache-2.0
"""QuantState: what a quantized tensor needs besides its codes, and how it is written into a state_dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.compat.bitsandbytes.utils import pack_dict_to_tensor, unpack_tensor_to_dict
from bittern.ops import codebooks, dequantize_blockwise
from bittern.ops.nested import quantize_absmax

_SUFFIX = "bitsandbytes__"
_NUMBERS = (
    "quant_state",
    "quant_type",
    "blocksize",
    "dtype",
    "shape",
    "nested_blocksize",
    "nested_dtype",
    "nested_offset",
)
_TENSORS = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")


class QuantState:
    """Scales, table, shape and dtype of a tensor in blocks; state2 and offset where the scales are quantized too.

    absmax: float32 [blocks], or uint8 codes of absmax - offset if state2 is given (`nested`).
    """

    valid_quant_types = ("fp4", "nf4")
    valid_qs_type_keys = tuple(f"{_SUFFIX}{name}" for name in ("fp4", "nf4"))
    valid_qs_keys = (*_TENSORS, *_NUMBERS)

    def __init__(
        self,
        absmax: Tensor,
        shape: Sequence[int] | None = None,
        code: Tensor | None = None,
        blocksize: int | None = None,
        quant_type: str | None = None,
        dtype: torch.dtype | None = None,
        offset: Tensor | None = None,
        state2: QuantState | None = None,
    ) -> None:
        self.absmax = absmax
        self.shape = shape
        self.code = code
        self._blocksize = blocksize
        self.quant_type = quant_type
        self.dtype = dtype
        self.offset = offset
        self.state2 = state2
        self.nested = state2 is not None

    @property
    def blocksize(self) -> int:
        """Elements per scale. Errors: ValueError if the state was made without it."""
        if self._blocksize is None:
            raise ValueError("QuantState: this state has no blocksize; pass blocksize=")
        return self._blocksize

    @blocksize.setter
    def blocksize(self, value: int) -> None:
        self._blocksize = value

    @property
    def table(self) -> Tensor:
        """The code table. Errors: ValueError if the state was made without it."""
        if self.code is None:
            raise ValueError("QuantState: this state has no code table; pass code=")
        return self.code

    def nest(self, block_size: int) -> None:
        """Quantizes absmax: its mean becomes `offset`, the rest codes of the signed dynamic map in blocks."""
        codes, scales, self.offset = quantize_absmax(self.absmax, block_size)
        code = codebooks.dynamic_tree().to(self.absmax.device)
        self.state2 = QuantState(scales, code=code, blocksize=block_size, dtype=torch.float32)
        self.absmax, self.nested = codes, True

    def scales(self) -> Tensor:
        """The float32 scales, decoded if they are nested."""
        inner = self.state2
        if inner is None:
            return self.absmax.float().flatten()
        codes = self.absmax.flatten()
        values = dequantize_blockwise(codes, inner.absmax.flatten(), inner.table, inner.blocksize)
        return values if self.offset is None else values + self.offset

    def to(self, device: torch.device | str) -> None:
        """Moves every tensor to `device`."""
        self.absmax = self.absmax.to(device)
        self.code = None if self.code is None else self.code.to(device)
        self.offset = None if self.offset is None else self.offset.to(device)
        if self.state2 is not None:
            self.state2.to(device)

    def __getattr__(self, name: str) -> Any:
        """`bitsandbytes__nf4`: the packed numbers, where sharding walks along the keys of a state_dict."""
        if name.startswith(_SUFFIX) and name == f"{_SUFFIX}{self.quant_type}":
            return self.as_dict(packed=True)[f"quant_state.{name}"]
        raise AttributeError(f"QuantState has no attribute {name!r}")

    def __getitem__(self, place: int) -> Any:
        """bitsandbytes' old list: absmax, shape, dtype, blocksize, [offset, state2] or None, quant_type."""
        nested = [self.offset, self.state2] if self.nested else None
        return [self.absmax, self.shape, self.dtype, self.blocksize, nested, self.quant_type][place]

    def __eq__(self, other: object) -> bool:
        """Equal numbers, and tensors that agree to the last rounding."""
        if not isinstance(other, QuantState):
            return NotImplemented
        tensors = ((self.absmax, other.absmax), (self.code, other.code), (self.offset, other.offset))
        return all(_close(a, b) for a, b in tensors) and self._numbers() == other._numbers()

    def _numbers(self) -> tuple[Any, ...]:
        return self.shape, self.dtype, self._blocksize, self.quant_type, self.state2

    def as_dict(self, packed: bool = False) -> dict[str, Any]:
        """Tensors and numbers by name; packed: only tensors, the numbers as JSON in one of uint8.

        8-bit codes have no packed form, as in bitsandbytes: their state is the same with and without `packed`.
        """
        result: dict[str, Any] = {
            "quant_type": self.quant_type,
            "absmax": self.absmax,
            "blocksize": self.blocksize,
            "quant_map": self.code,
            "dtype": str(self.dtype).removeprefix("torch."),
            "shape": None if self.shape is None else tuple(self.shape),
        }
        if self.state2 is not None and self.offset is not None:
            result |= {
                "nested_absmax": self.state2.absmax,
                "nested_blocksize": self.state2.blocksize,
                "nested_quant_map": self.state2.table.clone(),
                "nested_dtype": str(self.state2.dtype or torch.float32).removeprefix("torch."),
                "nested_offset": self.offset.item(),
            }
        if not packed or self.quant_type is None:
            return result
        numbers = {key: value for key, value in result.items() if not isinstance(value, Tensor)}
        tensors = {key: value for key, value in result.items() if isinstance(value, Tensor)}
        return {**tensors, f"quant_state.{_SUFFIX}{self.quant_type}": pack_dict_to_tensor(numbers)}

    @classmethod
    def from_dict(cls, qs_dict: Mapping[str, Any], device: torch.device | str) -> QuantState:
        """Reads either form of `as_dict`, also with the prefix of a state_dict (`weight.absmax`, ...).

        Errors: ValueError for more or fewer than one packed state, or a quant_type that does not exist.
        """
        short = {key: value for key, value in qs_dict.items() if isinstance(value, Tensor)}
        packed = [key for key in short if _SUFFIX in key]
        if "quant_type" not in qs_dict:
            if len(packed) != 1:
                raise ValueError(
                    f"QuantState.from_dict: needs one item named quant_state.{_SUFFIX}nf4 or ...fp4; got {len(packed)}"
                )
            numbers = unpack_tensor_to_dict(short.pop(packed[0]))
            found: dict[str, Any] = {**{_last(key): value for key, value in short.items()}, **numbers}
        else:
            found = dict(qs_dict)
        if found["quant_type"] not in (None, *cls.valid_quant_types):
            raise ValueError(
                f"QuantState.from_dict: quant_type must be one of {cls.valid_quant_types}; got {found['quant_type']!r}"
            )
        found.update({key: found[key].to(device) for key in _TENSORS if isinstance(found.get(key), Tensor)})
        offset, inner = None, None
        if "nested_absmax" in found:
            offset = torch.tensor(float(found["nested_offset"])).to(device)
            inner = cls(
                found["nested_absmax"],
                code=found["nested_quant_map"],
                blocksize=found["nested_blocksize"],
                dtype=getattr(torch, found["nested_dtype"]),
            )
        return cls(
            found["absmax"],
            shape=torch.Size(found["shape"]) if found["shape"] is not None else None,
            code=found["quant_map"],
            blocksize=found["blocksize"],
            quant_type=found["quant_type"],
            dtype=getattr(torch, found["dtype"]),
            offset=offset,
            state2=inner,
        )


def _close(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and torch.allclose(a.float(), b.float(), rtol=torch.finfo(torch.float32).eps)


def _last(key: str) -> str:
    return key.rsplit(".", 1)[-1]
