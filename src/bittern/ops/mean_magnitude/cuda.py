# SPDX-License-Identifier: Apache-2.0
"""`mean_magnitude` on CUDA: torch's own operations, in the order of the reference."""

from __future__ import annotations

from torch import Tensor

from bittern.ops.mean_magnitude.reference import mean_magnitude_reference


def mean_magnitude_cuda(x: Tensor) -> Tensor:
    return mean_magnitude_reference(x)
