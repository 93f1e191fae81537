# SPDX-License-Identifier: Apache-2.0
"""The arguments of `adapted_sign` and `adapted_sign_gradient`."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class AdaptedArguments(NamedTuple):
    """As the schema names them; `bittern.ops.adapted_sign` says what they mean."""

    x: Tensor
    down: Tensor
    up: Tensor
    alpha: Tensor
    amplitude: float


class AdaptedGradientArguments(NamedTuple):
    """As the schema names them; `bittern.ops.adapted_sign` says what they mean."""

    grad: Tensor
    x: Tensor
    down: Tensor
    up: Tensor
    alpha: Tensor
    amplitude: float
    terms: Tensor
    omega: float
    limit: float | None = None
    rising: bool = False
