# SPDX-License-Identifier: Apache-2.0
"""The arguments of `multibit_quantize`."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class MultibitQuantizeArguments(NamedTuple):
    """As the schema names them; `bittern.ops.multibit_quantize` says what they mean."""

    x: Tensor
    planes: int
    cycles: int = 2
    refined: bool = False
