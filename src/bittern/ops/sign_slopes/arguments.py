# SPDX-License-Identifier: Apache-2.0
"""The arguments of `fourier_gradient`."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class FourierArguments(NamedTuple):
    """As the schema names them; `bittern.ops.sign_slopes` says what they mean."""

    grad: Tensor
    x: Tensor
    terms: Tensor
    omega: float
    limit: float | None = None
    rising: bool = False
    wave: Tensor | None = None
