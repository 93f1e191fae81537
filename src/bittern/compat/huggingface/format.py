# SPDX-License-Identifier: Apache-2.0
"""What a quantized checkpoint says of a linear layer, whatever its format: which tensors it has, and what they mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from bittern.nn.linear_groups import Activations, LinearGroups
from bittern.nn.linear_mxfp4 import LinearMXFP4
from bittern.ops.linear_groups.layout import GROUPS


class Part(NamedTuple):
    """A tensor of a layer."""

    name: str
    dtypes: tuple[torch.dtype, ...]
    shape: tuple[int, ...]
    needed: bool = True


class Format(ABC):
    """group: inputs that share a scale, None for whole rows."""

    marker: ClassVar[str]
    """The tensor that says that a layer is quantized."""

    def __init__(self, group: int | None) -> None:
        self.group = group

    def groups(self, columns: int) -> int:
        """How many groups a row has."""
        return -(-columns // (self.group or columns))

    @abstractmethod
    def parts(self, rows: int, columns: int) -> tuple[Part, ...]:
        """The tensors of a layer of this size. Raises: ValueError for a size that the format does not have."""

    @abstractmethod
    def layer(
        self, rows: int, columns: int, tensors: Mapping[str, Tensor], bias: Tensor | None, activations: Activations
    ) -> LinearGroups | LinearMXFP4:
        """The layer that they hold. Raises: ValueError, TypeError for numbers that no weight has."""


SCALES = (torch.float16, torch.bfloat16, torch.float32)


def unpack(words: Tensor, bits: int) -> Tensor:
    """int32 [words, n] -> uint8 [words * 32 // bits, n]: each column is one string of bits, the lowest of a word first.

    Code k has the bits from bits * k on. 3 bits come in threes of words, which hold 32 codes; codes 10 and 21 of them
    lie in two words.
    """
    mask, n = (1 << bits) - 1, words.shape[1]
    if 32 % bits == 0:
        return torch.stack([(words >> low & mask).to(torch.uint8) for low in range(0, 32, bits)], 1).reshape(-1, n)
    blocks, codes = words.reshape(-1, bits, n), []
    for k in range(32):
        word, low = divmod(bits * k, 32)
        code = blocks[:, word] >> low & (mask & (1 << 32 - low) - 1)  # >> brings in copies of the sign
        if low + bits > 32:
            code = code | blocks[:, word + 1] << 32 - low
        codes.append((code & mask).to(torch.uint8))
    return torch.stack(codes, 1).reshape(-1, n)


def finest_group(group: int | None, columns: int) -> int | None:
    """The group in which `LinearGroups` holds it: itself, or the whole row, or 128 of which several are alike.

    Raises: ValueError where there is none.
    """
    if group is None or group in GROUPS:
        return group
    if group >= columns:
        return None
    if group % GROUPS[-1] == 0:
        return GROUPS[-1]
    raise ValueError(f"groups must be 32, 64, whole rows or multiples of 128 inputs; got {group}; quantize anew")


def order_of(index: Tensor, group: int | None) -> Tensor | None:
    """g_idx [columns], the group of each input -> inputs in the order of their groups; None where that is theirs.

    Raises: ValueError unless every group but the last has `group` inputs.
    """
    columns = len(index)
    expected = torch.arange(columns, dtype=index.dtype, device=index.device) // (group or columns)
    if torch.equal(index, expected):
        return None
    order = index.argsort(stable=True)
    if not torch.equal(index[order], expected):
        raise ValueError(
            f"g_idx must put {group or columns} inputs into each group from 0 on; got groups {int(index.min())} ... "
            f"{int(index.max())}; repair it, or quantize anew"
        )
    return order


def number(config: Mapping[str, Any], name: str, default: Any = None) -> int:
    """An integer of a configuration. Raises: ValueError."""
    value = config.get(name, default)
    if type(value) is not int:
        raise ValueError(f"{name} must be an integer; got {value!r}; repair the configuration")
    return value


def flag(config: Mapping[str, Any], name: str, default: bool) -> bool:
    """True or false of a configuration. Raises: ValueError."""
    value = config.get(name, default)
    if type(value) is not bool:
        raise ValueError(f"{name} must be true or false; got {value!r}; repair the configuration")
    return value


def group_size(config: Mapping[str, Any]) -> int | None:
    """group_size, where -1 stands for whole rows. Raises: ValueError."""
    value = number(config, "group_size")
    if value == -1:
        return None
    if value < 1:
        raise ValueError(f"group_size must be at least 1, or -1 for whole rows; got {value}; repair the configuration")
    return value
