# SPDX-License-Identifier: Apache-2.0
"""What GaLore and APOLLO share: AdamW whose states belong to the gradient of a matrix in a space of few dimensions.

Of a gradient G [m, n] the smaller side is projected: R = B G [rank, n] for m < n, else R = G B^T [m, rank], with B
[rank, smaller side].
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from bittern.optim._options import Group, check_not_negative
from bittern.optim._transformed import TransformedAdamW


class LowRank(TransformedAdamW):
    """Matrices whose smaller side is above `rank` have states of few dimensions; other parameters step as AdamW's."""

    or_exempt = ", or rank=None"

    def check_group(self, group: Group) -> None:
        check_not_negative(self._name, group, "scale")
        self.check_adamw(group, *(() if group["rank"] is None else ("rank",)), "update_proj_gap")

    def transformed_shape(self, p: Tensor, group: Group) -> tuple[int, int] | None:
        if not is_low_rank(p, group):
            return None
        rows, columns = p.shape
        return (rows, group["rank"]) if rows >= columns else (group["rank"], columns)


def is_low_rank(p: Tensor, group: Group) -> bool:
    """Whether `p` is a matrix whose smaller side is to be projected."""
    return group["rank"] is not None and p.ndim == 2 and min(p.shape) > group["rank"]


def project(basis: Tensor, gradient: Tensor) -> Tensor:
    """R, contiguous; basis: B [rank, smaller side]."""
    rows, columns = gradient.shape
    return (gradient @ basis.T if rows >= columns else basis @ gradient).contiguous()


def project_back(basis: Tensor, low: Tensor, shape: Sequence[int]) -> Tensor:
    """The matrix of this shape that B takes to `low`, where B's rows are orthonormal."""
    return low @ basis if shape[0] >= shape[1] else basis.T @ low
