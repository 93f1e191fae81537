# SPDX-License-Identifier: Apache-2.0
"""What the formats of integers in groups share: their codes, and the LinearGroups that holds them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from bittern.compat.huggingface.format import Format, finest_group
from bittern.nn.linear_groups import Activations, LinearGroups
from bittern.ops.linear_groups.layout import groups_of


class Codes(NamedTuple):
    """A weight [rows, columns] in codes: W[o, i] = scale[o, g] * (code[o, i] - zero[o, g]), as in `LinearGroups`."""

    codes: Tensor
    """uint8 [rows, columns], below 2^bits."""
    scale: Tensor
    """[rows, groups], in floating point."""
    zero: Tensor
    """Integers [rows, groups]."""
    order: Tensor | None = None
    """Inputs in the order of their groups; None: as they come."""


class IntegerFormat(Format):
    """Bits and groups of a checkpoint, and how its layers are packed.

    symmetric: whether the checkpoint says that every zero point is 2^(bits - 1).
    """

    def __init__(self, bits: int, group: int | None, symmetric: bool) -> None:
        super().__init__(group)
        self.bits, self.symmetric = bits, symmetric

    @abstractmethod
    def codes(self, rows: int, columns: int, tensors: Mapping[str, Tensor]) -> Codes:
        """What they hold. Raises: ValueError for numbers that no weight has."""

    def layer(
        self, rows: int, columns: int, tensors: Mapping[str, Tensor], bias: Tensor | None, activations: Activations
    ) -> LinearGroups:
        found = self.codes(rows, columns, tensors)
        half = 2 ** (self.bits - 1)
        centred = bool((found.zero == half).all())
        if self.symmetric and not centred:
            raise ValueError(
                f"the configuration says that weights are symmetric, with zero points of {half}; got "
                f"{int(found.zero.min())} ... {int(found.zero.max())}; if the checkpoint is of 'gptq_v2' under the "
                "name of 'gptq', say so in its checkpoint_format"
            )
        group = finest_group(self.group, columns)
        scale, zero = found.scale, found.zero
        if group != self.group and group is not None and self.group is not None:
            count = groups_of(columns, group)
            scale, zero = (v.repeat_interleave(self.group // group, 1)[:, :count] for v in (scale, zero))
        return LinearGroups.from_codes(
            found.codes.short() - half if centred else found.codes,
            scale,
            None if centred else zero,
            bits=self.bits,
            group=group,
            bias=bias,
            order=found.order,
            activations=activations,
        )
